//go:build !linux

package system

import (
	"context"
	"os"
	"time"
)

// watchInterval is how often the file is looked at where the system does not
// tell.
const watchInterval = 5 * time.Second

// watchFile sends to events, which holds one, when the file at path may have
// changed, until ctx ends. A symbolic link counts as the file behind it.
func watchFile(ctx context.Context, path string, events chan<- struct{}) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var former os.FileInfo
	for begun := false; ; begun = true {
		now, err := os.Stat(path)
		if err != nil {
			now = nil // gone, for a moment or for good
		}
		if !begun || !same(former, now) {
			select {
			case events <- struct{}{}:
			default:
			}
		}
		former = now
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// same reports whether a file was neither replaced nor written.
func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

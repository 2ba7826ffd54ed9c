//go:build !linux

package system

import (
	"context"
	"time"
)

// watchInterval is how often the file is looked at where the system does not
// tell.
const watchInterval = 5 * time.Second

// watchFile sends to events, which holds one, when the file at path may have
// changed, until ctx ends.
func watchFile(ctx context.Context, _ string, events chan<- struct{}) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		select {
		case events <- struct{}{}:
		default:
		}
	}
}

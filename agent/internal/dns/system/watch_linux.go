package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// watchFile sends to events, which holds one, when the file at path may have
// changed, until ctx ends. The folder tells of a file that is replaced, and the
// file itself of one that is written in place though mounted from elsewhere.
func watchFile(ctx context.Context, path string, events chan<- struct{}) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	queue := os.NewFile(uintptr(fd), "inotify")
	defer func() { _ = queue.Close() }() // only read
	defer context.AfterFunc(ctx, func() { _ = queue.SetReadDeadline(time.Now()) })()
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_CREATE|unix.IN_DELETE); err != nil {
		return fmt.Errorf("watch the folder of %s: %w", path, err)
	}
	raw := make([]byte, 4<<10)
	for {
		// The same file again is the same watch; another one at the path is new.
		if _, err := unix.InotifyAddWatch(fd, path, unix.IN_CLOSE_WRITE|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		select {
		case events <- struct{}{}: // it may have changed before it was watched
		default:
		}
		if _, err := queue.Read(raw); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch %s: %w", path, err)
		}
	}
}

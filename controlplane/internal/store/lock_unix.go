//go:build unix

package store

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// takeFile makes this process the only one that opens the database at path; the
// kernel gives the lock back when the process ends, however it ends.
func takeFile(path string) (release func() error, err error) {
	if err := checkFolder(path); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the path comes from the configuration
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w: %w", path, ErrUnwritable, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("open database %s: %w", path, ErrBusy)
		}
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}

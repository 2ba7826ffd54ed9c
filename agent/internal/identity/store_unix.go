//go:build unix

package identity

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

var errLocked = errors.New("locked")

// takeLock locks the file until it is closed or the process ends.
func takeLock(file *os.File) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

// syncFolder makes a rename survive a power cut.
func syncFolder(dir string) (err error) {
	folder, err := os.Open(dir) //nolint:gosec // the state folder
	if err != nil {
		return fmt.Errorf("sync the state folder: %w", err)
	}
	defer func() {
		if closeErr := folder.Close(); err == nil {
			err = closeErr
		}
	}()
	if err := folder.Sync(); err != nil {
		return fmt.Errorf("sync the state folder: %w", err)
	}
	return nil
}

func isDiskFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

func isReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }

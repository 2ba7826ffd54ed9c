//go:build !windows

// Package folder keeps what a program leaves on disk whole and to itself.
package folder

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Restrict leaves a folder to its owner: mode 0700.
func Restrict(dir string) error { return os.Chmod(dir, 0o700) } //nolint:gosec // a folder needs the x

// Sync makes what was renamed in a folder survive a power cut.
func Sync(dir string) error {
	opened, err := os.Open(dir) //nolint:gosec // the folder of a file that was just written
	if err == nil {
		err = errors.Join(opened.Sync(), opened.Close())
	}
	if err != nil {
		return fmt.Errorf("sync the folder: %w", err)
	}
	return nil
}

// IsFull reports whether an error tells of a disk or a quota without space.
func IsFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

func isReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }

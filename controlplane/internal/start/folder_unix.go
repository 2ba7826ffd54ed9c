//go:build unix

package start

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks a file for this process until it is closed. It returns
// EWOULDBLOCK when another process holds the lock.
func tryLock(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

func isLocked(err error) bool { return errors.Is(err, syscall.EWOULDBLOCK) }

func isAddressInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// flushFile waits until the content of a file is on the disk. Its times may be lost.
func flushFile(file *os.File) error {
	for {
		if err := unix.Fdatasync(int(file.Fd())); err != unix.EINTR {
			return err
		}
	}
}

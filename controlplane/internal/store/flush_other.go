//go:build !linux

package store

import "os"

// flushFile waits until the content of a file is on the disk.
func flushFile(file *os.File) error { return file.Sync() }

//go:build !linux

package connectivity

import "syscall"

// markSocket does nothing: marks are Linux's.
func markSocket(uint32) func(network, address string, c syscall.RawConn) error { return nil }

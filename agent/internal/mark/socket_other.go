//go:build !linux

package mark

import "syscall"

// Socket does nothing: this system has no marks, and no routes of ours.
func Socket(_, _ string, _ syscall.RawConn) error { return nil }

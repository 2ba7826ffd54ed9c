package connectivity

import (
	"errors"
	"syscall"
)

// markSocket returns what puts the mark on a socket before it connects, nil
// for no mark. Without the privilege the socket goes unmarked.
func markSocket(mark uint32) func(network, address string, c syscall.RawConn) error {
	if mark == 0 {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var failure error
		err := c.Control(func(fd uintptr) {
			failure = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_MARK, int(mark))
		})
		if errors.Is(failure, syscall.EPERM) {
			failure = nil
		}
		return errors.Join(err, failure)
	}
}

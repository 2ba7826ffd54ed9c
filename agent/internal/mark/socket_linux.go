package mark

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket puts the mark on a socket before it connects; it is the Control of a net.Dialer and a net.ListenConfig. Without
// the privilege the socket goes unmarked: then there are no routes of ours either.
func Socket(_, _ string, c syscall.RawConn) error {
	var failure error
	err := c.Control(func(fd uintptr) {
		failure = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(Value))
	})
	if errors.Is(failure, unix.EPERM) {
		failure = nil
	}
	return errors.Join(err, failure)
}

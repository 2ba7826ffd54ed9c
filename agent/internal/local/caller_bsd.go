//go:build darwin || freebsd

package local

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// callerID returns the user at the other end of the socket (LOCAL_PEERCRED).
func callerID(c net.Conn) (int, error) {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a Unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("ask the socket: %w", err)
	}
	var credentials *unix.Xucred
	var failure error
	if err := raw.Control(func(fd uintptr) {
		credentials, failure = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("ask the socket: %w", err)
	}
	if failure != nil {
		return 0, fmt.Errorf("ask for the credentials: %w", failure)
	}
	return int(credentials.Uid), nil
}

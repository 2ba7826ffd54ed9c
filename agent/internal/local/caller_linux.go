package local

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// callerID returns the user at the other end of the socket (SO_PEERCRED).
func callerID(c net.Conn) (int, error) {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a Unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("ask the socket: %w", err)
	}
	var credentials *unix.Ucred
	var failure error
	if err := raw.Control(func(fd uintptr) {
		credentials, failure = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("ask the socket: %w", err)
	}
	if failure != nil {
		return 0, fmt.Errorf("ask for the credentials: %w", failure)
	}
	return int(credentials.Uid), nil
}

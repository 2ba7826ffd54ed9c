//go:build linux || darwin || freebsd

package local

import (
	"errors"
	"fmt"
	"net"
)

// callerID returns the user at the other end of the socket.
func callerID(c net.Conn) (int, error) {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a Unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("ask the socket: %w", err)
	}
	var id int
	var failure error
	if err := raw.Control(func(fd uintptr) { id, failure = peerID(int(fd)) }); err != nil {
		return 0, fmt.Errorf("ask the socket: %w", err)
	}
	if failure != nil {
		return 0, fmt.Errorf("ask for the credentials: %w", failure)
	}
	return id, nil
}

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// openQueues returns n sockets on the port of first, first among them. The
// kernel sends each client always to the same one. First is opened alone, so
// that a port that another program holds is noticed, and shares it afterwards.
func openQueues(first *net.UDPConn, n int) ([]*net.UDPConn, error) {
	sockets := []*net.UDPConn{first}
	if n == 1 {
		return sockets, nil
	}
	raw, err := first.SyscallConn()
	if err == nil {
		err = sharePort("", "", raw)
	}
	if err != nil {
		return sockets, fmt.Errorf("relay: share a UDP port: %w", err)
	}
	config := net.ListenConfig{Control: sharePort}
	for len(sockets) < n {
		conn, err := config.ListenPacket(context.Background(), "udp", first.LocalAddr().String())
		if err != nil {
			return sockets, fmt.Errorf("relay: open another queue of %s: %w", first.LocalAddr(), err)
		}
		sockets = append(sockets, conn.(*net.UDPConn))
	}
	return sockets, nil
}

func sharePort(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, failed)
}

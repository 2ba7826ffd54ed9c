package server

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setBuffers asks for large socket buffers: beyond the system's limit where
// the process may, else up to it.
func setBuffers(conn syscall.RawConn, bytes int) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		for force, plain := range map[int]int{
			unix.SO_RCVBUFFORCE: unix.SO_RCVBUF,
			unix.SO_SNDBUFFORCE: unix.SO_SNDBUF,
		} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, force, bytes) == nil {
				continue
			}
			if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, plain, bytes); err != nil {
				failed = err
			}
		}
	})
	if err != nil {
		return err
	}
	return failed
}

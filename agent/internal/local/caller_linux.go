package local

import "golang.org/x/sys/unix"

// peerID asks a socket who is at its other end (SO_PEERCRED, unix(7)).
func peerID(fd int) (int, error) {
	credentials, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(credentials.Uid), nil
}

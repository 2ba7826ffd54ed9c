//go:build darwin || freebsd

package local

import "golang.org/x/sys/unix"

// peerID asks a socket who is at its other end (LOCAL_PEERCRED, unix(4)).
func peerID(fd int) (int, error) {
	credentials, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(credentials.Uid), nil
}

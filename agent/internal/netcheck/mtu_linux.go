package netcheck

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

const canForbidFragments = true

// forbidFragments sets do-not-fragment and ignores what the kernel believes of
// the path (ip(7), IP_PMTUDISC_PROBE).
func forbidFragments(network string, raw syscall.RawConn) error {
	var failure error
	err := raw.Control(func(fd uintptr) {
		if network == "udp4" {
			failure = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		} else {
			failure = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		}
	})
	return errors.Join(err, failure)
}

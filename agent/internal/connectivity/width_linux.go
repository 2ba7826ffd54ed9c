package connectivity

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// knownMTU returns what the kernel knows the way to addr to carry, in bytes with
// the headers of IP: that of the interface, or less where a router has said so
// (ip(7), IP_MTU). 0: it does not say.
func knownMTU(addr netip.AddrPort, mark uint32) int {
	conn := towards(addr, mark)
	if conn == nil {
		return 0
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	level, option := unix.IPPROTO_IP, unix.IP_MTU
	if addr.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	bytes := 0
	_ = raw.Control(func(fd uintptr) { // fails on a closed socket, which knows nothing either
		if n, err := unix.GetsockoptInt(int(fd), level, option); err == nil {
			bytes = n
		}
	})
	return bytes
}

package route

import (
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LeftClosed reports whether something of this host is refused by a table of
// ours, which anybody may ask. While no daemon runs that is what one has left.
func LeftClosed() bool {
	for _, family := range families {
		for at := range slots {
			list, err := netlink.RouteListFiltered(family, &netlink.Route{Table: table + at, Type: unix.RTN_UNREACHABLE, Protocol: protocol},
				netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_PROTOCOL)
			if err == nil && len(list) > 0 {
				return true
			}
		}
	}
	return false
}

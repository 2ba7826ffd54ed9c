package portmap

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var errNoGateway = errors.New("there is no default route over IPv4")

// findGateway reads the default route of the main table: those of other tables
// may lead into a tunnel.
func findGateway() (Gateway, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return Gateway{}, err
	}
	var best *netlink.Route
	for i, route := range routes {
		if whole(route.Dst) && route.Gw != nil && (best == nil || route.Priority < best.Priority) {
			best = &routes[i]
		}
	}
	if best == nil {
		return Gateway{}, errNoGateway
	}
	addr, _ := netip.AddrFromSlice(best.Gw)
	return towards(addr.Unmap())
}

// whole reports whether a destination is every address.
func whole(destination *net.IPNet) bool {
	if destination == nil {
		return true
	}
	ones, _ := destination.Mask.Size()
	return ones == 0
}

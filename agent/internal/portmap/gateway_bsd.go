//go:build darwin || freebsd

package portmap

import (
	"errors"
	"net/netip"
	"syscall"

	"golang.org/x/net/route"
)

var errNoGateway = errors.New("there is no default route over IPv4")

// findGateway reads the default route from the routing table.
func findGateway() (Gateway, error) {
	table, err := route.FetchRIB(syscall.AF_INET, route.RIBTypeRoute, 0)
	if err != nil {
		return Gateway{}, err
	}
	messages, err := route.ParseRIB(route.RIBTypeRoute, table)
	if err != nil {
		return Gateway{}, err
	}
	for _, message := range messages {
		m, ok := message.(*route.RouteMessage)
		if !ok || m.Flags&syscall.RTF_GATEWAY == 0 || len(m.Addrs) <= syscall.RTAX_GATEWAY {
			continue
		}
		to, isIPv4 := m.Addrs[syscall.RTAX_DST].(*route.Inet4Addr)
		via, hasIPv4 := m.Addrs[syscall.RTAX_GATEWAY].(*route.Inet4Addr)
		if isIPv4 && hasIPv4 && to.IP == [4]byte{} {
			return towards(netip.AddrFrom4(via.IP))
		}
	}
	return Gateway{}, errNoGateway
}

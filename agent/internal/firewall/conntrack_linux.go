package firewall

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// cut deletes the tracking entries of flows that the rules do not permit any
// more, so that neither their replies nor a retransmission revives them.
func (k *Kernel) cut(f frame, rules *ruleset) error {
	for _, part := range []struct {
		family netlink.InetFamily
		self   netip.Addr
	}{{unix.AF_INET, f.self.IPv4}, {unix.AF_INET6, f.self.IPv6}} {
		if !part.self.IsValid() {
			continue
		}
		n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, part.family, forbidden{frame: f, self: part.self, rules: rules})
		if err != nil {
			return fmt.Errorf("cut flows that are not permitted any more: %w", err)
		}
		if n > 0 {
			k.logger.Info("flows cut", "count", n)
		}
	}
	return nil
}

// forbidden matches the flows of the tunnel that the rules do not permit.
type forbidden struct {
	frame frame
	self  netip.Addr
	rules *ruleset
}

// MatchConntrackFlow reports whether a flow must go. A flow of the tunnel has a
// peer or this machine at one end at least.
func (m forbidden) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	src, ok1 := unmapped(flow.Forward.SrcIP)
	dst, ok2 := unmapped(flow.Forward.DstIP)
	if !ok1 || !ok2 || src == dst {
		return false
	}
	allows := func(inbound bool) bool {
		return m.rules.allows(inbound, src, dst, flow.Forward.Protocol, flow.Forward.DstPort)
	}
	from, to := m.inNetwork(src), m.inNetwork(dst)
	switch {
	case !from && !to:
		return false
	case dst == m.self, src != m.self && from && !to:
		return !allows(true) // to this machine, or carried
	case src == m.self, to && !from:
		return !allows(false) // from this machine, or opened
	}
	return false
}

func (m forbidden) inNetwork(addr netip.Addr) bool {
	for _, network := range m.frame.networks {
		if network.IsValid() && network.Contains(addr) {
			return true
		}
	}
	return false
}

func unmapped(ip net.IP) (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(ip)
	return addr.Unmap(), ok
}

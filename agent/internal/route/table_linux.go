package route

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/agent/internal/mark"
)

// Choices of ours. Each agent of a host has a table and priorities of its own.
const (
	table = 22439

	priorityNetwork = 5400
	priorityMain    = 5410
	priorityTunnel  = 5420

	// protocol is who made a rule or a route (RFC 3549, section 3.1.1): W, free in /etc/iproute2/rt_protos.
	protocol = 0x57

	// lastMetric makes refusals the last resort of a destination.
	lastMetric = 1 << 30

	slots = 10 // priorities are ten apart
)

// slot tells the agents of one host apart by their interfaces: 0 is the usual
// one. It is where an agent looks for a free table first.
func slot(name string) int {
	if n, err := strconv.Atoi(strings.TrimPrefix(name, "wt")); err == nil && n >= 0 && n < slots {
		return n
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(name)) // a hash takes everything
	return int(sum.Sum32() % slots)
}

// entry is a route of our table.
type entry struct {
	prefix  netip.Prefix
	refused bool
}

func (e entry) compare(o entry) int {
	refused := func(e entry) int {
		if e.refused {
			return 1
		}
		return 0
	}
	return cmp.Or(comparePrefixes(e.prefix, o.prefix), refused(e)-refused(o))
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// entries lists the wanted routes in order. The network's own ranges are among them: what leads everything into the
// table must find them there.
func entries(c Config) []entry {
	var list []entry
	if len(c.Destinations)+len(c.Refused) == 0 {
		return nil
	}
	for _, prefix := range slices.Concat(c.Networks, c.Destinations) {
		list = append(list, entry{prefix.Masked(), false})
	}
	for _, prefix := range c.Refused {
		list = append(list, entry{prefix.Masked(), true})
	}
	slices.SortFunc(list, entry.compare)
	return slices.Compact(list)
}

// rules lists the wanted rules of one family in order. Inbound are the addresses
// whose services answer by the host's own table.
func (k *Kernel) rules(c Config, family int, inbound []netip.Addr) []netlink.Rule {
	of := func(p netip.Prefix) bool { return familyOf(p.Addr()) == family }
	if !slices.ContainsFunc(slices.Concat(c.Destinations, c.Refused), of) {
		return nil
	}
	rule := func(priority int) netlink.Rule {
		r := *netlink.NewRule()
		r.Family, r.Priority, r.Table, r.Protocol = family, priority+k.slot, k.table, protocol
		return r
	}
	var list []netlink.Rule
	for _, network := range c.Networks {
		if of(network) {
			r := rule(priorityNetwork)
			r.Dst = ipNet(network.Masked())
			list = append(list, r)
		}
	}
	if !c.LocalToo {
		r := rule(priorityMain)
		r.Table, r.SuppressPrefixlen = unix.RT_TABLE_MAIN, 0
		list = append(list, r)
	}
	for _, addr := range inbound {
		r := rule(priorityMain)
		r.Table, r.Src = unix.RT_TABLE_MAIN, ipNet(netip.PrefixFrom(addr, addr.BitLen()))
		r.Sport = netlink.NewRulePortRange(1, firstOutgoing()-1)
		list = append(list, r)
	}
	r := rule(priorityTunnel)
	mask := mark.Mask
	r.Invert, r.Mark, r.Mask = true, mark.Value, &mask
	return append(list, r)
}

// name tells rules apart.
func name(r netlink.Rule) string {
	mask := uint32(0)
	if r.Mask != nil {
		mask = *r.Mask
	}
	dst := ""
	if r.Dst != nil {
		dst = r.Dst.String()
	}
	source := ""
	if r.Src != nil {
		source = r.Src.String()
	}
	if r.Sport != nil {
		source += fmt.Sprint(":", r.Sport.Start, "-", r.Sport.End)
	}
	return fmt.Sprint(r.Priority, " ", source, " ", dst, " ", r.Table, " ", r.SuppressPrefixlen, " ", r.Invert, " ", r.Mark, "/", mask)
}

// route writes an entry as the kernel wants it.
func (k *Kernel) route(e entry, link int) netlink.Route {
	r := netlink.Route{Dst: ipNet(e.prefix), Table: k.table, Protocol: protocol, Family: familyOf(e.prefix.Addr())}
	if e.refused {
		r.Type, r.Priority = unix.RTN_UNREACHABLE, lastMetric
		return r
	}
	r.LinkIndex, r.Scope = link, netlink.SCOPE_LINK
	return r
}

// entryOf reads a route of our table.
func entryOf(r netlink.Route) (entry, bool) {
	prefix, ok := prefixOf(r.Dst, r.Family)
	return entry{prefix, r.Type == unix.RTN_UNREACHABLE}, ok
}

func familyOf(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefixOf reads a destination; the kernel writes everything of a family as none.
func prefixOf(n *net.IPNet, family int) (netip.Prefix, bool) {
	if n == nil {
		if family == unix.AF_INET {
			return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
		}
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), true
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	bits, size := n.Mask.Size()
	if size == 8*net.IPv4len {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, bits), true
}

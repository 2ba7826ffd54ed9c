package firewall

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	"github.com/wattlenet/wattle/generated/api"
)

// layout is the wanted content of the table in the kernel: what changes with
// the map. It is a value, made from a Config and compared with the one in force.
type layout struct {
	frame frame
	sets  map[string]memberSet
	rules map[string]hostRule
}

// frame is what stands before any rule: the chains, the default drop and the
// protection against forged addresses.
type frame struct {
	name     string // interface
	self     Addresses
	networks [2]netip.Prefix // IPv4, IPv6
}

// memberSet is one set id in one family: the addresses of its members.
type memberSet struct {
	ipv6    bool
	members []netip.Addr // rising
}

// hostRule is one compiled rule in one direction and family.
type hostRule struct {
	chain    string
	set      string
	ipv6     bool
	protocol api.CompiledRuleProtocol
	ports    []api.PortRange // rising, apart from each other; empty for any
	accept   bool
}

// Chains of the table. Drops stand before accepts by standing in a chain of
// their own.
const (
	chainInput      = "input"
	chainForward    = "forward"
	chainOutput     = "output"
	chainIn         = "inbound"
	chainOut        = "outbound"
	chainInDrops    = "inbound_drops"
	chainInAccepts  = "inbound_accepts"
	chainOutDrops   = "outbound_drops"
	chainOutAccepts = "outbound_accepts"
)

func newLayout(c Config) layout {
	self := c.Peers[c.Self]
	l := layout{
		frame: frame{name: c.Interface, self: self},
		sets:  map[string]memberSet{},
		rules: map[string]hostRule{},
	}
	for _, network := range c.Networks {
		if network.Addr().Is4() {
			l.frame.networks[0] = network.Masked()
		} else {
			l.frame.networks[1] = network.Masked()
		}
	}
	for _, rule := range c.Rules {
		if inward(rule) {
			l.add(c, rule, rule.Source, "in", chainInDrops, chainInAccepts)
		}
		if outward(rule) {
			l.add(c, rule, rule.Destination, "out", chainOutDrops, chainOutAccepts)
		}
	}
	return l
}

func inward(r api.CompiledRule) bool  { return r.Direction == "in" || r.Direction == "both" }
func outward(r api.CompiledRule) bool { return r.Direction == "out" || r.Direction == "both" }

// add puts one direction of a rule into both families.
func (l *layout) add(c Config, rule api.CompiledRule, set, direction, drops, accepts string) {
	if c.Sets[set] == nil {
		return // a rule without its set matches nobody
	}
	chain := accepts
	if rule.Action == "drop" {
		chain = drops
	}
	protocols := []api.CompiledRuleProtocol{rule.Protocol}
	ports := mergePorts(rule.Ports)
	if rule.Ports != nil && len(*rule.Ports) > 0 {
		// A rule with ports is about packets that have ports.
		switch {
		case len(ports) == 0 || rule.Protocol == "icmp":
			return
		case rule.Protocol == "all":
			protocols = []api.CompiledRuleProtocol{"tcp", "udp"}
		}
	}
	for _, ipv6 := range []bool{false, true} {
		name := setName(set, ipv6)
		if _, done := l.sets[name]; !done {
			l.sets[name] = memberSet{ipv6: ipv6, members: membersOf(c, set, ipv6)}
		}
		for _, protocol := range protocols {
			h := hostRule{chain: chain, set: name, ipv6: ipv6, protocol: protocol, ports: ports, accept: rule.Action == "accept"}
			l.rules[h.key(rule.Id, direction)] = h
		}
	}
}

// key names a rule together with its content, so that a rule whose content
// changed is another rule. It also is the comment of the rule in the kernel.
func (h hostRule) key(id, direction string) string {
	content := fnv.New64a()
	_, _ = fmt.Fprint(content, h) // a hash takes everything
	family := "v4"
	if h.ipv6 {
		family = "v6"
	}
	return fmt.Sprintf("%.64s %s %s %016x", id, direction, family, content.Sum64())
}

func setName(id string, ipv6 bool) string {
	if ipv6 {
		return id + "_v6"
	}
	return id + "_v4"
}

func membersOf(c Config, set string, ipv6 bool) []netip.Addr {
	members := make([]netip.Addr, 0, c.Sets[set].GetCardinality())
	for it := c.Sets[set].Iterator(); it.HasNext(); {
		peer := c.Peers[it.Next()]
		addr := peer.IPv4
		if ipv6 {
			addr = peer.IPv6
		}
		if addr.IsValid() {
			members = append(members, addr)
		}
	}
	slices.SortFunc(members, netip.Addr.Compare)
	return slices.Compact(members)
}

// mergePorts sorts ranges, leaves empty ones out and joins those that touch, since the kernel refuses
// intervals that overlap.
func mergePorts(given *[]api.PortRange) []api.PortRange {
	if given == nil {
		return nil
	}
	ranges := slices.SortedFunc(slices.Values(*given), func(a, b api.PortRange) int { return cmp.Compare(a.Start, b.Start) })
	merged := ranges[:0]
	for _, r := range ranges {
		if r.End < r.Start {
			continue // holds none
		}
		if n := len(merged); n > 0 && r.Start <= merged[n-1].End+1 {
			merged[n-1].End = max(merged[n-1].End, r.End)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// change is what turns one layout into another.
type change struct {
	newSets  []string
	goneSets []string
	add      map[string][]netip.Addr // elements by set, new sets included
	remove   map[string][]netip.Addr
	newRules []string
	gone     []string // rules
}

func (c change) empty() bool {
	return len(c.newSets)+len(c.goneSets)+len(c.add)+len(c.remove)+len(c.newRules)+len(c.gone) == 0
}

// narrows reports whether somebody may lose access by the change: members or
// rules go, or a drop comes or grows.
func (c change) narrows(to layout) bool {
	if len(c.gone) > 0 || len(c.remove) > 0 {
		return true
	}
	for key, rule := range to.rules {
		if !rule.accept && (len(c.add[rule.set]) > 0 || slices.Contains(c.newRules, key)) {
			return true
		}
	}
	return false
}

// diff lists the steps from one layout to another of the same frame.
func diff(from, to layout) change {
	c := change{add: map[string][]netip.Addr{}, remove: map[string][]netip.Addr{}}
	for _, name := range slices.Sorted(maps.Keys(to.sets)) {
		former, known := from.sets[name]
		if !known {
			c.newSets = append(c.newSets, name)
		}
		add, remove := diffMembers(former.members, to.sets[name].members)
		if len(add) > 0 {
			c.add[name] = add
		}
		if len(remove) > 0 {
			c.remove[name] = remove
		}
	}
	for _, name := range slices.Sorted(maps.Keys(from.sets)) {
		if _, kept := to.sets[name]; !kept {
			c.goneSets = append(c.goneSets, name)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(to.rules)) {
		if _, known := from.rules[key]; !known {
			c.newRules = append(c.newRules, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(from.rules)) {
		if _, kept := to.rules[key]; !kept {
			c.gone = append(c.gone, key)
		}
	}
	return c
}

// diffMembers walks two rising lists.
func diffMembers(from, to []netip.Addr) (add, remove []netip.Addr) {
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(from) == 0:
			return append(add, to...), remove
		case len(to) == 0:
			return add, append(remove, from...)
		}
		switch from[0].Compare(to[0]) {
		case 0:
			from, to = from[1:], to[1:]
		case -1:
			remove, from = append(remove, from[0]), from[1:]
		default:
			add, to = append(add, to[0]), to[1:]
		}
	}
	return add, remove
}

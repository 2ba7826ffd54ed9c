package firewall

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
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

// memberSet is one set id in one family: the addresses of its members. Sets of
// destinations outside of the overlay hold ranges, or what names were learned to
// mean.
type memberSet struct {
	ipv6    bool
	members []netip.Addr   // rising
	ranges  []netip.Prefix // rising, apart from each other
	kind    setKind
}

type setKind uint8

// The kinds of sets.
const (
	ofMembers setKind = iota
	ofRanges
	ofLearned // filled beside the map, with timeouts
)

// hostRule is one compiled rule in one direction and family, or several that
// differ in their destination outside of the overlay only.
type hostRule struct {
	chain       string
	source      string       // set; empty for any
	destination string       // the same
	from        netip.Prefix // the source when it is a range; not valid for any
	ipv6        bool
	protocol    api.CompiledRuleProtocol
	ports       []api.PortRange // rising, apart from each other; empty for any
	action      action
}

type action uint8

// What rules do.
const (
	dropIt action = iota
	acceptIt
	masqueradeIt
	countIt
)

// Chains of the table. What monitors stands before drops and drops before
// accepts, each in a chain of their own.
const (
	chainInput   = "input"
	chainForward = "forward"
	chainOutput  = "output"
	chainIn      = "inbound"
	chainOut     = "outbound"
	chainCarried = "carried" // from peers to a destination that this machine leads to
	chainOpened  = "opened"  // from such a destination to peers

	monitors = "_monitors"
	drops    = "_drops"
	accepts  = "_accepts"

	chainMasquerade = "masquerade" // exists only while it has rules
)

// judging are the chains in which rules of the map stand.
var judging = [...]string{chainIn, chainOut, chainCarried, chainOpened}

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
		if rule.Route != nil {
			l.addRouted(c, rule)
			continue
		}
		if inward(rule) {
			l.add(c, rule, rule.Source, "in", chainIn)
		}
		if outward(rule) {
			l.add(c, rule, rule.Destination, "out", chainOut)
		}
	}
	l.addMasquerade(c)
	for name, set := range l.sets {
		set.ranges = mergeRanges(set.ranges)
		l.sets[name] = set
	}
	return l
}

// carries reports whether this machine carries the traffic of others.
func (l layout) carries() bool {
	for _, rule := range l.rules {
		if strings.HasPrefix(rule.chain, chainCarried) || strings.HasPrefix(rule.chain, chainOpened) {
			return true
		}
	}
	return false
}

func inward(r api.CompiledRule) bool  { return r.Direction == "in" || r.Direction == "both" }
func outward(r api.CompiledRule) bool { return r.Direction == "out" || r.Direction == "both" }

// add puts one direction of a rule into both families.
func (l *layout) add(c Config, rule api.CompiledRule, set, direction, chain string) {
	if c.Sets[set] == nil {
		return // a rule without its set matches nobody
	}
	for _, h := range forms(rule, chain) {
		name := l.members(c, set, h.ipv6)
		if chain == chainIn {
			h.source = name
		} else {
			h.destination = name
		}
		l.rules[h.key(rule.Id, direction)] = h
	}
}

// members returns the name of a set of the map in one family, which it adds to
// the layout.
func (l *layout) members(c Config, set string, ipv6 bool) string {
	name := setName(set, ipv6)
	if _, done := l.sets[name]; !done {
		l.sets[name] = memberSet{ipv6: ipv6, members: membersOf(c, set, ipv6)}
	}
	return name
}

// forms lists what a rule is in both families, without its ends.
func forms(rule api.CompiledRule, chain string) (list []hostRule) {
	part, act := accepts, acceptIt
	switch {
	case mapstate.Monitors(rule):
		part, act = monitors, countIt
	case rule.Action == "drop":
		part, act = drops, dropIt
	}
	protocols := []api.CompiledRuleProtocol{rule.Protocol}
	ports := mergePorts(rule.Ports)
	if rule.Ports != nil && len(*rule.Ports) > 0 {
		// A rule with ports is about packets that have ports.
		switch {
		case len(ports) == 0 || rule.Protocol == "icmp":
			return nil
		case rule.Protocol == "all":
			protocols = []api.CompiledRuleProtocol{"tcp", "udp"}
		}
	}
	for _, ipv6 := range []bool{false, true} {
		for _, protocol := range protocols {
			list = append(list, hostRule{chain: chain + part, ipv6: ipv6, protocol: protocol, ports: ports, action: act})
		}
	}
	return list
}

// key names a rule together with its content, so that a rule whose content
// changed is another rule. It also is the comment of the rule in the kernel.
func (h hostRule) key(id, direction string) string {
	family := "v4"
	if h.ipv6 {
		family = "v6"
	}
	return fmt.Sprintf("%.64s %s %s %s", id, direction, family, h.hash())
}

func (h hostRule) hash() string {
	content := fnv.New64a()
	_, _ = fmt.Fprint(content, h) // a hash takes everything
	return fmt.Sprintf("%016x", content.Sum64())
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
	add      map[string]elements // by set, new sets included
	remove   map[string]elements
	newRules []string
	gone     []string // rules
}

// elements are members or ranges of a set.
type elements struct {
	members []netip.Addr
	ranges  []netip.Prefix
}

func (e elements) empty() bool { return len(e.members)+len(e.ranges) == 0 }

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
		grows := !c.add[rule.source].empty() || !c.add[rule.destination].empty()
		if rule.action == dropIt && (grows || slices.Contains(c.newRules, key)) {
			return true
		}
	}
	return false
}

// diff lists the steps from one layout to another of the same frame.
func diff(from, to layout) change {
	c := change{add: map[string]elements{}, remove: map[string]elements{}}
	for _, name := range slices.Sorted(maps.Keys(to.sets)) {
		former, known := from.sets[name]
		if !known {
			c.newSets = append(c.newSets, name)
		}
		var add, remove elements
		add.members, remove.members = diffRising(former.members, to.sets[name].members, netip.Addr.Compare)
		add.ranges, remove.ranges = diffRising(former.ranges, to.sets[name].ranges, compareRanges)
		if !add.empty() {
			c.add[name] = add
		}
		if !remove.empty() {
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

// diffRising walks two rising lists.
func diffRising[E any](from, to []E, compare func(a, b E) int) (add, remove []E) {
	for len(from) > 0 || len(to) > 0 {
		switch {
		case len(from) == 0:
			return append(add, to...), remove
		case len(to) == 0:
			return add, append(remove, from...)
		}
		switch compare(from[0], to[0]) {
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

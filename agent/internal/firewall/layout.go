package firewall

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/table"
)

// layout is the wanted content of the table in the kernel: what changes with
// the map. It is a value, made from a Config and the layout in force, with which
// it shares what stays.
type layout struct {
	*shape
	members map[string]addressSet // by name of the set, of those that hold members
	config  Config                // that it was made from
}

// shape is a layout without the members of its sets: what a network's machines
// alter seldom, and what does not grow with their number.
type shape struct {
	frame frame
	sets  map[string]memberSet
	rules map[string]hostRule

	// counted tells whose packets a rule counts, by its key.
	counted map[string]Count
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
	ipv6   bool
	of     string         // the set of the map whose members it holds
	ranges []netip.Prefix // rising, apart from each other
	kind   setKind
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

// newLayout makes the layout of c out of a former one. The error names a rule
// that is not understood.
func newLayout(c Config, former layout) (layout, error) {
	l := layout{shape: former.shape, members: map[string]addressSet{}, config: c}
	if former.shape == nil || !sameShape(c, former.config) {
		var err error
		if l.shape, err = newShape(c); err != nil {
			return layout{}, err
		}
	}
	shifted := roaring.New() // peers whose addresses have changed
	for n := range table.Diff(former.config.Peers, c.Peers, table.Equal) {
		shifted.Add(n)
	}
	for name, set := range l.sets {
		if set.kind == ofMembers {
			l.members[name] = former.moved(name, set, shifted, c)
		}
	}
	return l, nil
}

// sameShape reports whether two configs differ in peers and members at most.
func sameShape(c, former Config) bool {
	if c.Interface != former.Interface || c.Peers.At(c.Self) != former.Peers.At(former.Self) ||
		!slices.Equal(c.Networks, former.Networks) || !slices.Equal(c.Rules, former.Rules) || !maps.Equal(c.Routes, former.Routes) {
		return false
	}
	for _, set := range table.Diff(former.Sets, c.Sets, table.Equal) {
		if set.Was == nil || set.Is == nil {
			return false
		}
	}
	return true
}

// moved returns the members of a set, made of those that it had.
func (l layout) moved(name string, set memberSet, shifted *roaring.Bitmap, c Config) addressSet {
	was, is := roaring.New(), c.Sets.At(set.of)
	if former := l.config.Sets.At(set.of); former != nil && l.shape != nil && l.sets[name].of == set.of {
		was = former
	}
	others := roaring.Xor(was, is)
	others.Or(roaring.And(shifted, roaring.Or(was, is)))
	if others.IsEmpty() {
		return l.members[name]
	}
	edit := l.members[name].Edit()
	for each := others.Iterator(); each.HasNext(); {
		if n := each.Next(); was.Contains(n) {
			edit.Delete(keyOf(l.config.Peers.At(n).of(set.ipv6)))
		}
	}
	for each := others.Iterator(); each.HasNext(); {
		n := each.Next()
		if addr := c.Peers.At(n).of(set.ipv6); is.Contains(n) && addr.IsValid() {
			edit.Set(keyOf(addr), struct{}{})
		}
	}
	return edit.Table()
}

func newShape(c Config) (*shape, error) {
	l := &shape{
		frame: frame{name: c.Interface, self: c.Peers.At(c.Self)},
		sets:  map[string]memberSet{},
		rules: map[string]hostRule{}, counted: map[string]Count{},
	}
	for _, network := range c.Networks {
		if network.Addr().Is4() {
			l.frame.networks[0] = network.Masked()
		} else {
			l.frame.networks[1] = network.Masked()
		}
	}
	for _, rule := range c.Rules {
		if _, err := mapstate.RuleOf(rule); err != nil {
			return nil, err
		}
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
	return l, nil
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
func (l *shape) add(c Config, rule api.CompiledRule, set, direction, chain string) {
	if !c.Sets.Has(set) {
		return // a rule without its set matches nobody
	}
	for _, h := range forms(rule, chain) {
		name := l.hold(set, h.ipv6)
		if chain == chainIn {
			h.source = name
		} else {
			h.destination = name
		}
		key := h.key(rule.Id, direction)
		l.rules[key], l.counted[key] = h, Count{Rule: rule.Id}
	}
}

// hold returns the name of a set of the map in one family, which it adds.
func (l *shape) hold(set string, ipv6 bool) string {
	name := setName(set, ipv6)
	l.sets[name] = memberSet{ipv6: ipv6, of: set}
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
	for name, set := range to.sets {
		var add, remove elements
		for key, member := range table.Diff(from.members[name], to.members[name], table.Equal) {
			if member.Was == nil {
				add.members = append(add.members, key.addr())
			} else {
				remove.members = append(remove.members, key.addr())
			}
		}
		if from.shape != to.shape {
			add.ranges, remove.ranges = diffRising(from.sets[name].ranges, set.ranges, compareRanges)
		}
		if !add.empty() {
			c.add[name] = add
		}
		if !remove.empty() {
			c.remove[name] = remove
		}
	}
	if from.shape == to.shape {
		return c
	}
	for _, name := range slices.Sorted(maps.Keys(to.sets)) {
		if _, known := from.sets[name]; !known {
			c.newSets = append(c.newSets, name)
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

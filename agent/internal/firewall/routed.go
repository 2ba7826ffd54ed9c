package firewall

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// A Destination is a part of the world outside of the overlay that rules name:
// a range, or what names were learned to mean.
type Destination struct {
	// Prefix is the range; not valid when names tell.
	Prefix netip.Prefix

	// Masquerade hides the sources of what this machine carries there behind its
	// own address.
	Masquerade bool
}

// routedEnds returns the route and the set of a rule about routed traffic, and
// whether the route is what is reached.
func routedEnds(r api.CompiledRule) (route, set string, toward bool) {
	if *r.Route == api.CompiledRuleRouteSource {
		return r.Source, r.Destination, false
	}
	return r.Destination, r.Source, true
}

// addRouted puts a rule about routed traffic into the families of its route.
// Rules that differ in the route only become one, so that their number does not
// grow with the number of routes; those that monitor stay apart, since each has
// its counter.
func (l *shape) addRouted(c Config, rule api.CompiledRule) {
	route, set, toward := routedEnds(rule)
	to, known := c.Routes[route]
	if !known {
		return
	}
	chain := chainOut
	switch {
	case rule.Direction == "forward" && !c.Sets.Has(set):
		return
	case rule.Direction == "forward" && toward:
		chain = chainCarried
	case rule.Direction == "forward":
		chain = chainOpened
	case !toward:
		chain = chainIn
	}
	id, own := "routed", ""
	if mapstate.Monitors(rule) {
		id, own = rule.Id, rule.Id
	}
	for _, h := range forms(rule, chain) {
		if to.Prefix.IsValid() && to.Prefix.Addr().Is6() != h.ipv6 {
			continue
		}
		ends := [2]*string{&h.source, &h.destination}
		if !toward {
			slices.Reverse(ends[:])
		}
		if rule.Direction == "forward" {
			*ends[0] = l.hold(set, h.ipv6)
		}
		*ends[1] = l.far(h, route, to, own)
		key := h.key(id, chain)
		l.rules[key] = h
		met, known := l.counted[key]
		switch {
		case !known:
			met = Count{Rule: rule.Id}
		case met.Rule != rule.Id:
			met.Rule, met.Also = min(met.Rule, rule.Id), met.Also+1
		}
		l.counted[key] = met
	}
}

// far returns the set of the destinations of a rule that has all but that, with
// this one in it. owner is the rule that has it for itself; empty for shared.
func (l *shape) far(h hostRule, route string, to Destination, owner string) string {
	if !to.Prefix.IsValid() {
		name := setName(route, h.ipv6)
		l.sets[name] = memberSet{ipv6: h.ipv6, kind: ofLearned}
		return name
	}
	name := "far_" + h.hash() + owner
	set := l.sets[name]
	set.ipv6, set.kind, set.ranges = h.ipv6, ofRanges, append(set.ranges, l.outside(to.Prefix.Masked())...)
	l.sets[name] = set
	return name
}

// outside leaves the network's own ranges out of a range: peers are reached by
// the rules between peers only.
func (l *shape) outside(p netip.Prefix) []netip.Prefix {
	list := []netip.Prefix{p}
	for _, network := range l.frame.networks {
		var rest []netip.Prefix
		for _, part := range list {
			rest = append(rest, without(part, network)...)
		}
		list = rest
	}
	return list
}

// without cuts a range in halves until none of them holds what is not wanted.
func without(p, unwanted netip.Prefix) (rest []netip.Prefix) {
	if !unwanted.IsValid() || !p.Overlaps(unwanted) {
		return []netip.Prefix{p}
	}
	for p.Bits() < unwanted.Bits() {
		lower := netip.PrefixFrom(p.Addr(), p.Bits()+1)
		upper := netip.PrefixFrom(lastOf(lower).Next(), p.Bits()+1)
		if lower.Overlaps(unwanted) {
			lower, upper = upper, lower
		}
		rest, p = append(rest, lower), upper
	}
	return rest
}

// routeOf returns the route of a set of learned addresses.
func routeOf(set string) string { return set[:len(set)-len("_v4")] }

// addMasquerade hides what peers send to the destinations that ask for it.
func (l *shape) addMasquerade(c Config) {
	for route, to := range c.Routes {
		if !to.Masquerade {
			continue
		}
		for i, network := range l.frame.networks {
			h := hostRule{chain: chainMasquerade, from: network, ipv6: i == 1, protocol: "all", action: masqueradeIt}
			if !network.IsValid() || to.Prefix.IsValid() && to.Prefix.Addr().Is6() != h.ipv6 {
				continue
			}
			h.destination = l.far(h, route, to, "")
			l.rules[h.key("routed", chainMasquerade)] = h
		}
	}
}

// mergeRanges sorts ranges and leaves out those inside of others, since the
// kernel refuses intervals that overlap.
func mergeRanges(ranges []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ranges, compareRanges)
	merged := ranges[:0]
	for _, r := range ranges {
		if n := len(merged); n == 0 || !merged[n-1].Overlaps(r) {
			merged = append(merged, r)
		}
	}
	return merged
}

// compareRanges orders ranges by their first address, the wider first.
func compareRanges(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// lastOf returns the last address of a range.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(raw); bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return last
}

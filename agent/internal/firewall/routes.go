package firewall

import (
	"net/netip"
	"slices"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/verdict"
)

// routes judges traffic that has an end outside of the overlay. The zero value
// permits nothing.
type routes struct {
	ranges  map[netip.Prefix][]*routed
	lengths []int // of the ranges, of both families
	overlay []netip.Prefix
	named   []*routed
	names   *learned
}

// routed holds the rules of one destination.
type routed struct {
	id    string
	rules [2][2]verdict.Rules // by role, and whether the traffic comes from the tunnel
}

// between are the rules of one role and direction.
func (r *routed) between(role int, inbound bool) *verdict.Rules {
	if inbound {
		return &r.rules[role][1]
	}
	return &r.rules[role][0]
}

// The roles of this machine in the traffic of a route.
const (
	use   = iota // it stands at the other end
	serve        // it carries the traffic of others
)

// routedRule is a rule of routed traffic, and as the matcher knows it.
type routedRule struct {
	api.CompiledRule
	compiled verdict.Rule
}

// compileRoutes makes the rules of routed traffic ready. At the end of a route
// all rules hold peer 0, and at this machine's end too.
func compileRoutes(c Config, rules []routedRule, names *learned) routes {
	type place struct {
		route   string
		role    int
		inbound bool
	}
	lists := map[place][]verdict.Rule{}
	for _, rule := range rules {
		compiled := rule.compiled
		route, set, toward := routedEnds(rule.CompiledRule)
		at := place{route: route, role: use, inbound: !toward}
		compiled.Source, compiled.Destination = verdict.Only(0), verdict.Only(0)
		if rule.Direction == "forward" {
			// The packet tells the peer as its source, whichever end it is.
			at.role, at.inbound = serve, toward
			if !c.Sets.Has(set) {
				continue
			}
			compiled.Source = c.Sets.At(set)
		}
		lists[at] = append(lists[at], compiled)
	}
	r := routes{ranges: map[netip.Prefix][]*routed{}, names: names, overlay: c.Networks}
	for id, to := range c.Routes {
		compiled := &routed{id: id}
		for role := range compiled.rules {
			compiled.rules[role][0] = verdict.New(lists[place{id, role, false}])
			compiled.rules[role][1] = verdict.New(lists[place{id, role, true}])
		}
		if !to.Prefix.IsValid() {
			r.named = append(r.named, compiled)
			continue
		}
		prefix := to.Prefix.Masked()
		r.ranges[prefix] = append(r.ranges[prefix], compiled)
		if !slices.Contains(r.lengths, prefix.Bits()) {
			r.lengths = append(r.lengths, prefix.Bits())
		}
	}
	return r
}

// of calls yield for each route that an address belongs to, until it says no. An
// address of the overlay belongs to none.
func (r *routes) of(addr netip.Addr, yield func(*routed) bool) {
	for _, network := range r.overlay {
		if network.Contains(addr) {
			return
		}
	}
	for _, bits := range r.lengths {
		prefix, err := addr.Prefix(bits)
		if err != nil {
			continue // longer than addresses of this family
		}
		for _, found := range r.ranges[prefix] {
			if !yield(found) {
				return
			}
		}
	}
	for _, found := range r.named {
		if r.names.holds(found.id, addr) && !yield(found) {
			return
		}
	}
}

func (r *routes) has(id string) bool {
	return slices.ContainsFunc(r.named, func(known *routed) bool { return known.id == id })
}

func (r *routes) hold(addr netip.Addr) (held bool) {
	r.of(addr, func(*routed) bool { held = true; return false })
	return held
}

// watch tells note of the rules that monitor and match a packet.
func (r *routes) watch(far netip.Addr, role int, inbound bool, p verdict.Packet, note func(rule string)) {
	r.of(far, func(found *routed) bool {
		found.between(role, inbound).Watched(p, note)
		return true
	})
}

// judge judges a packet by the rules of all routes that its far end belongs to:
// a drop of one wins over the accepts of all.
func (r *routes) judge(far netip.Addr, role int, inbound bool, p verdict.Packet) (ruling verdict.Verdict) {
	r.of(far, func(found *routed) bool {
		v := found.between(role, inbound).Evaluate(p)
		dropped := !v.Allowed && v.Rule != ""
		if dropped || !ruling.Allowed {
			ruling = v
		}
		return !dropped
	})
	return ruling
}

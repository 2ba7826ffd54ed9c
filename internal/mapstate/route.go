package mapstate

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/wattlenet/wattle/generated/api"
)

// A Candidate is a peer that carries the traffic of a route.
type Candidate struct {
	Ordinal uint32
	// Metric is the lowest of the sets that hold the peer.
	Metric int
}

// Candidates returns the peers that carry the traffic of a route of the map that the peer uses, the preferred first:
// by metric, then by ordinal. A route that the peer serves has none.
func (m *Map) Candidates(route api.CompiledRoute) []Candidate {
	var list []Candidate
	for _, routers := range valueOf(route.Routers) {
		set := m.Sets.At(routers.Set)
		if set == nil {
			continue
		}
		for ordinals := set.Iterator(); ordinals.HasNext(); {
			n := ordinals.Next()
			known := slices.IndexFunc(list, func(c Candidate) bool { return c.Ordinal == n })
			switch {
			case known < 0:
				list = append(list, Candidate{n, routers.Metric})
			case routers.Metric < list[known].Metric:
				list[known].Metric = routers.Metric
			}
		}
	}
	slices.SortFunc(list, func(a, b Candidate) int {
		if a.Metric != b.Metric {
			return a.Metric - b.Metric
		}
		return int(a.Ordinal) - int(b.Ordinal)
	})
	return list
}

func inbound(r api.CompiledRule) bool {
	return r.Direction == api.CompiledRuleDirectionIn || r.Direction == api.CompiledRuleDirectionBoth
}

func outbound(r api.CompiledRule) bool {
	return r.Direction == api.CompiledRuleDirectionOut || r.Direction == api.CompiledRuleDirectionBoth
}

// routedEnd returns which end of a rule is a route; empty when both are sets.
func routedEnd(r api.CompiledRule) api.CompiledRuleRoute { return valueOf(r.Route) }

// setsOf lists the sets that a rule needs: those of the ends at which the peer itself does not stand.
func setsOf(r api.CompiledRule) (sets []string) {
	routed, forward := routedEnd(r), r.Direction == api.CompiledRuleDirectionForward
	if (inbound(r) || forward) && routed != api.CompiledRuleRouteSource {
		sets = append(sets, r.Source)
	}
	if (outbound(r) || forward) && routed != api.CompiledRuleRouteDestination {
		sets = append(sets, r.Destination)
	}
	return sets
}

// routeOf returns the id of the route at an end of a rule, or nothing.
func routeOf(r api.CompiledRule) string {
	switch routedEnd(r) {
	case api.CompiledRuleRouteSource:
		return r.Source
	case api.CompiledRuleRouteDestination:
		return r.Destination
	}
	return ""
}

func setsOfRoute(r api.CompiledRoute) (sets []string) {
	for _, routers := range valueOf(r.Routers) {
		sets = append(sets, routers.Set)
	}
	return sets
}

func equalRoutes(a, b api.CompiledRoute) bool { return HashRoute(a) == HashRoute(b) }

// checkRouted refuses rules whose route is not there, or cannot stand at that end.
func (c *change) checkRouted(r api.CompiledRule) error {
	end, id := routedEnd(r), routeOf(r)
	if end == "" {
		if r.Direction == api.CompiledRuleDirectionForward {
			return fmt.Errorf("the rule %s forwards, but neither end is a route", r.Id)
		}
		return nil
	}
	if !end.Valid() {
		return fmt.Errorf("the rule %s has a route at the unknown end %q", r.Id, end)
	}
	route, known := c.routes.Get(id)
	if !known {
		return fmt.Errorf("the rule %s names the unknown route %s", r.Id, id)
	}
	wanted, role := r.Direction, api.CompiledRouteRoleUse
	switch {
	case wanted == api.CompiledRuleDirectionForward:
		role = api.CompiledRouteRoleServe
	case wanted == api.CompiledRuleDirectionOut && end == api.CompiledRuleRouteDestination,
		wanted == api.CompiledRuleDirectionIn && end == api.CompiledRuleRouteSource:
	default:
		return fmt.Errorf("the rule %s of direction %s cannot have the route as its %s", r.Id, r.Direction, end)
	}
	if route.Role != role {
		return fmt.Errorf("the rule %s of direction %s names a route of the role %s", r.Id, r.Direction, route.Role)
	}
	return nil
}

func (c *change) upsertRoute(route *api.CompiledRoute) error {
	if route == nil {
		return errIncomplete
	}
	if err := c.take(c.checkRoute(*route)); err != nil {
		return err
	}
	keep(c, c.routes, route.Id, *route, HashRoute)
	return nil
}

func (c *change) removeRoute(id *string) error {
	for _, rule := range c.rules.All() {
		if id != nil && routeOf(rule) == *id {
			return fmt.Errorf("the rule %s still names the route %s", rule.Id, *id)
		}
	}
	return drop(c, c.routes, id, "route", HashRoute)
}

// checkRoute refuses what no host could be told.
func (c *change) checkRoute(r api.CompiledRoute) error {
	if !r.Role.Valid() {
		return fmt.Errorf("the route %s has the unknown role %q", r.Id, r.Role)
	}
	if (r.Prefix == nil) == (len(valueOf(r.Domains)) == 0) {
		return fmt.Errorf("the route %s needs a prefix or domains, and not both", r.Id)
	}
	if r.Prefix != nil {
		if prefix, err := netip.ParsePrefix(*r.Prefix); err != nil || prefix != prefix.Masked() {
			return fmt.Errorf("the route %s has the prefix %q, which is none", r.Id, *r.Prefix)
		}
	}
	if (r.Role == api.CompiledRouteRoleUse) == (len(valueOf(r.Routers)) == 0) {
		return fmt.Errorf("the route %s of the role %s names %d routers", r.Id, r.Role, len(valueOf(r.Routers)))
	}
	for _, set := range setsOfRoute(r) {
		if _, known := c.sets.Get(set); !known {
			return fmt.Errorf("the route %s names the unknown set %s", r.Id, set)
		}
	}
	return nil
}

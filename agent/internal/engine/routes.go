package engine

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/route"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// destination is a range or a name outside of the overlay that the map shows.
// Routes of one network to one range are one destination: they stand in for
// each other.
type destination struct {
	key        string // for the choice of its router
	views      []api.CompiledRoute
	prefix     netip.Prefix // not valid when names tell
	candidates []route.Candidate
	routers    []string // names, the preferred first
	refusal    string   // why the machine does not go there; empty when it does

	router string       // the id of the peer that carries the traffic; empty: nobody
	named  []netip.Addr // what names were found to mean

	declined  bool // refused because this machine's user wants no routes
	fallsOpen bool // without a router that answers the traffic goes as without the agent
	open      bool // it does
}

// led reports whether traffic of this machine may go there.
func (d *destination) led() bool { return !d.serves() && d.refusal == "" }

// newDestination is where one route leads.
func newDestination(view api.CompiledRoute, prefix netip.Prefix) *destination {
	d := &destination{views: []api.CompiledRoute{view}, prefix: prefix}
	d.key = view.Network + "\x00" + deref(view.Prefix) + fmt.Sprint(d.domains())
	return d
}

func (d *destination) domains() []string {
	if domains := d.views[0].Domains; domains != nil {
		return *domains
	}
	return nil
}

func (d *destination) serves() bool { return d.views[0].Role == api.CompiledRouteRoleServe }

// matters reports whether anything follows from a router that does not answer.
func (d *destination) matters() bool { return len(d.candidates) > 1 || d.isExit() }

func deref[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

// planRoutes reads the routes of the map. What no machine can follow is refused
// with the reason; the rest of the map is in force all the same.
func (d *desired) planRoutes() {
	byKey := map[string]*destination{}
	for _, view := range sortedRoutes(d.m) {
		to, usable := d.terms.routes[view.Id]
		if !usable {
			continue
		}
		planned := newDestination(view, to.Prefix)
		if planned.serves() {
			d.destinations = append(d.destinations, planned)
			continue
		}
		if known := byKey[planned.key]; known != nil {
			known.views = append(known.views, view)
			continue
		}
		planned.refusal = d.refusal(planned.prefix)
		byKey[planned.key] = planned
		d.destinations = append(d.destinations, planned)
	}
	for _, planned := range byKey {
		planned.findRouters(d.m, d.crowd)
	}
	d.settleOverlaps()
}

// sortedRoutes lists the routes of a map by name.
func sortedRoutes(m *mapstate.Map) []api.CompiledRoute {
	return slices.SortedFunc(m.Routes.Values(), func(a, b api.CompiledRoute) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Id, b.Id))
	})
}

// refusal says why no traffic may be led to a range; empty when it may.
func (d *desired) refusal(prefix netip.Prefix) string {
	switch addr := prefix.Addr(); {
	case !prefix.IsValid(), prefix.Bits() == 0:
		return ""
	case addr.IsLoopback(), addr.IsMulticast(), addr.IsLinkLocalUnicast():
		return "addresses of this range never leave a machine or its link"
	}
	for _, network := range d.networks() {
		if network.Overlaps(prefix) && network.Bits() <= prefix.Bits() {
			return fmt.Sprintf("the range lies inside of the network's own %s", network)
		}
	}
	return ""
}

// findRouters lists who leads to the destination, the preferred first.
func (d *destination) findRouters(m *mapstate.Map, known crowd) {
	var all []mapstate.Candidate
	for _, view := range d.views {
		all = append(all, m.Candidates(view)...)
	}
	slices.SortStableFunc(all, func(a, b mapstate.Candidate) int {
		return cmp.Or(a.Metric-b.Metric, cmp.Compare(a.Ordinal, b.Ordinal))
	})
	for _, c := range all {
		router, followed := known.at(c.Ordinal)
		met := slices.ContainsFunc(d.candidates, func(x route.Candidate) bool { return x.Peer == router.entry.Id })
		if !followed || met || c.Ordinal == m.Self.N {
			continue
		}
		d.candidates = append(d.candidates, route.Candidate{Peer: router.entry.Id, Metric: c.Metric})
		d.routers = append(d.routers, router.entry.Name)
	}
}

// settleOverlaps lets one destination have each range: two networks may hold
// the same, and this machine what others lead to.
func (d *desired) settleOverlaps() {
	owner := map[netip.Prefix]*destination{}
	for _, x := range d.destinations {
		if x.serves() && x.prefix.IsValid() && x.prefix.Bits() > 0 {
			owner[x.prefix] = x
		}
	}
	for _, x := range d.destinations {
		if x.serves() || x.refusal != "" || !x.prefix.IsValid() || x.prefix.Bits() == 0 || len(x.candidates) == 0 {
			continue
		}
		other := owner[x.prefix]
		switch {
		case other == nil:
			owner[x.prefix] = x
		case other.serves():
			x.refusal = "this machine leads there itself"
		case x.candidates[0].Metric < other.candidates[0].Metric:
			other.refusal = overlapping(x)
			owner[x.prefix] = x
		default:
			x.refusal = overlapping(other)
		}
	}
}

func overlapping(winner *destination) string {
	return fmt.Sprintf("the route %s leads to the same range and has the lower metric, or the first name", winner.views[0].Name)
}

// lead decides which way each destination goes, and completes what tunnel and
// host are told.
func (d *desired) lead(choose func(*destination) string, down func(peer string) bool) {
	allowed := map[string][]netip.Prefix{} // by peer
	owned := d.ranges()
	d.watched = map[string]bool{}
	d.routing = route.Config{Networks: d.networks()}
	for _, x := range d.destinations {
		if x.serves() {
			d.routing.Carried = append(d.routing.Carried, x.carried()...)
			continue
		}
		if x.refusal != "" {
			continue
		}
		if x.matters() {
			for _, candidate := range x.candidates {
				d.watched[candidate.Peer] = true
			}
		}
		x.router = choose(x)
		x.open = x.fallsOpen && down(x.router)
		if x.router == "" || x.open {
			continue
		}
		for _, prefix := range x.prefixes() {
			if !x.prefix.IsValid() {
				if owned[prefix] {
					continue // another name has the address too
				}
				owned[prefix] = true
			}
			allowed[x.router] = append(allowed[x.router], prefix)
			d.routing.Destinations = append(d.routing.Destinations, prefix)
		}
	}
	d.closeExit()
	d.leadNames()
	d.firewall.KeepPaths = len(d.routing.Destinations)+len(d.routing.Refused) > 0
	d.carry(allowed)
}

// carry gives tunnel and paths what they shall have: everybody, and the routers
// with what they carry.
func (d *desired) carry(allowed map[string][]netip.Prefix) {
	peers, paths := d.crowd.tunnel.Edit(), d.crowd.paths.Edit()
	for id, prefixes := range allowed {
		path, _ := paths.Get(id)
		router, _ := peers.Get(path.PublicKey)
		router.AllowedIPs = slices.Concat(router.AllowedIPs, prefixes)
		peers.Set(path.PublicKey, router)
	}
	for id := range d.watched {
		path, _ := paths.Get(id)
		path.Watched = true
		paths.Set(id, path)
	}
	for id, mode := range d.modes {
		path, _ := paths.Get(id)
		path.Mode = mode
		paths.Set(id, path)
	}
	d.tunnel.Peers, d.paths = peers.Table(), paths.Table()
}

// ranges are those that destinations lead to by themselves.
func (d *desired) ranges() map[netip.Prefix]bool {
	owned := map[netip.Prefix]bool{}
	for _, x := range d.destinations {
		if x.prefix.IsValid() && x.led() {
			owned[x.prefix] = true
		}
	}
	return owned
}

// prefixes is where the destination is.
func (d *destination) prefixes() (list []netip.Prefix) {
	if d.prefix.IsValid() {
		return []netip.Prefix{d.prefix}
	}
	for _, addr := range d.named {
		list = append(list, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return list
}

// carried is what the host must be able to forward to for a destination; names
// may lead anywhere.
func (d *destination) carried() []netip.Prefix {
	if d.prefix.IsValid() {
		return []netip.Prefix{d.prefix}
	}
	return append(d.prefixes(), everything()[0])
}

func (d *destination) describe(names, waiting map[string]string) local.Route {
	view := d.views[0]
	described := local.Route{
		Name: view.Name, Role: string(view.Role), Prefix: deref(view.Prefix), Domains: append([]string{}, d.domains()...),
		Routers: append([]string{}, d.routers...), Addresses: addresses(d.named...), Masquerade: deref(view.Masquerade),
		Router: names[d.router], Next: names[waiting[d.key]], Note: d.refusal,
	}
	if !d.serves() && described.Note == "" && d.router == "" {
		described.Note = "no machine leads there at the moment"
	}
	return described
}

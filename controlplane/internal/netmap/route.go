package netmap

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// A route is a destination outside of the overlay: a resource of a network that has a router, or a route of its own.
//
//	sources ── rule ──> at (groups of the resource, or its own base)
//	   │                 │
//	   │ use             └── route ── via ──> routers
//	   └──────────────────────┘                  │ serve, forward
//
// Rules reach a resource through the bases that it is at, in either direction; such a base may hold peers too, and the
// rule then means both. A peer that stands at the other end uses the route, sees its routers, and has a rule that names
// the route in place of a set. A peer that is a router serves the route and has the same rule as one that it forwards:
// it shows the peers that come through. Drops of all protocols are compiled away, as between peers. What a drop says of
// the router itself does not matter: it carries the traffic of others.
//
// A route of its own leads the peers of its groups there without any rule, or, with access control groups, for the
// traffic of the rules that have one of these as destination.
type route struct {
	// key is "n:" and the id of a resource, or "t:" and the id of a route.
	key, id string
	// told is what everybody is told of it.
	told api.CompiledRoute
	// destination is equal for the routes that stand in for each other.
	destination string
	// via is in the order of metrics.
	via []via
	// at is in the order of names, as is gets: who gets the route without a rule, nil for a resource.
	at, gets []*base
	// open is the rule of a route without access control groups; nil for all others.
	open *rule

	// use and serve are the forms in which classes are told of the route; serve by masquerade.
	use   *routeView
	serve [2]*routeView
	// traffic follows from the rules that are about the route; nil when it has to be worked out again.
	traffic *traffic
}

// A via is a router, or the peers of groups that are.
type via struct {
	router     string
	peers      []*base
	metric     int
	masquerade bool
}

// A routeView is a route as a class is told of it.
type routeView struct {
	api.CompiledRoute
	hash mapstate.Digest
	raw  []byte
}

func newRouteView(told api.CompiledRoute) *routeView {
	return &routeView{CompiledRoute: told, hash: mapstate.HashRoute(told), raw: marshal(told)}
}

func resourceName(id string) string { return "n:" + id }
func routeName(id string) string    { return "t:" + id }

// resourceEnd reports whether an end of a rule is a single resource, which no peer is in.
func resourceEnd(end []*base) bool {
	return len(end) == 1 && strings.HasPrefix(end[0].name, resourceName(""))
}

// routeOfResource returns nil when the network of the resource has no router.
func (e *Engine) routeOfResource(r Resource) *route {
	routers := e.networks[r.Network].routers
	if len(routers) == 0 {
		return nil
	}
	at := append(end(r.Groups, ""), resourceName(r.ID))
	slices.Sort(at)
	rt := &route{
		key: resourceName(r.ID), at: e.basesOf(at),
		told: toldOf(cmp.Or(r.Name, r.ID), e.cfg.opaque("n_", r.Network), r.Prefix, r.Domain),
	}
	// Nobody leaves by an exit node for having access to it.
	rt.told.SkipAutoApply = present(r.Prefix.IsValid() && r.Prefix.Bits() == 0)
	for _, router := range routers {
		rt.via = append(rt.via, via{router.ID, e.basesOf(end(router.Groups, router.Peer)), router.Metric, router.Masquerade})
	}
	return rt.complete(e)
}

// routeOfRoute is routeOfResource for a route of its own.
func (e *Engine) routeOfRoute(r Route) *route {
	rt := &route{
		key: routeName(r.ID), at: e.basesOf(end(r.AccessControlGroups, "")), gets: e.basesOf(end(r.Groups, "")),
		told: toldOf(r.NetworkID, r.NetworkID, r.Prefix, r.Domains...),
		via:  []via{{r.ID, e.basesOf(end(r.PeerGroups, r.Peer)), r.Metric, r.Masquerade}},
	}
	rt.told.KeepRoute, rt.told.SkipAutoApply = present(r.KeepRoute), present(r.SkipAutoApply)
	if len(rt.at) == 0 {
		rt.open = &rule{
			id: e.cfg.opaque("r_", rt.key), protocol: api.CompiledRuleProtocolAll, sources: rt.gets,
			sourceID: e.cfg.opaque("s_", expressionKey(names(rt.gets), nil, nil)),
		}
	}
	return rt.complete(e)
}

// complete fills in what follows from the rest.
func (rt *route) complete(e *Engine) *route {
	rt.id = e.cfg.opaque("t_", rt.key)
	rt.told.Id = rt.id
	rt.destination = destinationOf(rt.told)
	slices.SortFunc(rt.via, func(a, b via) int { return cmp.Or(cmp.Compare(a.metric, b.metric), cmp.Compare(a.router, b.router)) })
	var routers []api.RouteRouter
	for _, v := range rt.via {
		routers = append(routers, api.RouteRouter{Set: e.cfg.opaque("s_", expression{union: v.peers}.key()), Metric: v.metric})
	}
	used, served := rt.told, rt.told
	used.Role, used.Routers = api.CompiledRouteRoleUse, &routers
	rt.use = newRouteView(used)
	served.Role, served.KeepRoute, served.SkipAutoApply = api.CompiledRouteRoleServe, nil, nil
	rt.serve[0] = newRouteView(served)
	served.Masquerade = present(true)
	rt.serve[1] = newRouteView(served)
	return rt
}

// toldOf is what users and routers are told alike.
func toldOf(name, network string, prefix netip.Prefix, domains ...string) api.CompiledRoute {
	told := api.CompiledRoute{Name: name, Network: network}
	domains = slices.DeleteFunc(slices.Clone(domains), func(d string) bool { return d == "" })
	if len(domains) > 0 {
		slices.Sort(domains)
		domains = slices.Compact(domains)
		told.Domains = &domains
		return told
	}
	text := prefix.String()
	told.Prefix = &text
	return told
}

// destinationOf names what routes that stand in for each other have in common.
func destinationOf(told api.CompiledRoute) string {
	if told.Prefix != nil {
		return told.Network + "\x00" + *told.Prefix
	}
	return told.Network + "\x00" + strings.Join(*told.Domains, " ")
}

// present is a flag for the wire, where absent means false.
func present(flag bool) *bool {
	if !flag {
		return nil
	}
	return &flag
}

func (rt *route) equal(o *route) bool {
	return rt.use.hash == o.use.hash && slices.Equal(rt.at, o.at) && slices.Equal(rt.gets, o.gets) &&
		slices.EqualFunc(rt.via, o.via, func(a, b via) bool {
			return a.router == b.router && a.metric == b.metric && a.masquerade == b.masquerade && slices.Equal(a.peers, b.peers)
		})
}

// link makes the bases know the route, unlink makes them forget it.
func (rt *route) link() {
	for _, b := range rt.at {
		b.routes = known(b.routes, rt)
	}
	for _, b := range rt.gets {
		b.gets = known(b.gets, rt)
	}
	for _, v := range rt.via {
		for _, b := range v.peers {
			b.serves = known(b.serves, rt)
		}
	}
}

func known(routes map[*route]struct{}, rt *route) map[*route]struct{} {
	if routes == nil {
		routes = map[*route]struct{}{}
	}
	routes[rt] = struct{}{}
	return routes
}

func (rt *route) unlink() {
	for _, b := range rt.at {
		delete(b.routes, rt)
	}
	for _, b := range rt.gets {
		delete(b.gets, rt)
	}
	for _, v := range rt.via {
		for _, b := range v.peers {
			delete(b.serves, rt)
		}
	}
}

// servedBy returns how peers of a class serve the route: as the router with the lowest metric that they are.
func (rt *route) servedBy(c *class) *routeView {
	for _, v := range rt.via {
		if slices.ContainsFunc(v.peers, func(b *base) bool { return slices.Contains(c.bases, b) }) {
			if v.masquerade {
				return rt.serve[1]
			}
			break
		}
	}
	return rt.serve[0]
}

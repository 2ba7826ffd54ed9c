package netmap

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// ResourcePut says that a resource of a network exists, is enabled, and how it looks now.
type ResourcePut struct{ Resource Resource }

// ResourceRemove says that a resource is gone or disabled. An unknown id changes nothing.
type ResourceRemove struct{ ID string }

// RouterPut says that a router of a network exists, is enabled, and how it looks now.
type RouterPut struct{ Router Router }

// RouterRemove says that a router is gone or disabled. An unknown id changes nothing.
type RouterRemove struct{ ID string }

// RoutePut says that a route exists, is enabled, and how it looks now.
type RoutePut struct{ Route Route }

// RouteRemove says that a route is gone or disabled. An unknown id changes nothing.
type RouteRemove struct{ ID string }

func (ResourcePut) change()    {}
func (ResourceRemove) change() {}
func (RouterPut) change()      {}
func (RouterRemove) change()   {}
func (RoutePut) change()       {}
func (RouteRemove) change()    {}

// A Resource is a destination behind the routers of a network. Either Prefix or Domain says what it is.
type Resource struct {
	ID string
	// Name is what people call the resource; its users see it. Empty means the id.
	Name string
	// Network is the id of the network whose routers lead to the resource.
	Network string
	// Prefix is masked; a single host has the full length.
	Prefix netip.Prefix
	// Domain is a name, or a wildcard as *.example.com.
	Domain string
	// Groups holds the ids of the groups that the resource is in. Rules reach it through them, or by its own id.
	Groups []string
}

// A Router carries the traffic of a network to its resources. Either Peer or Groups is given.
type Router struct {
	ID, Network string
	// Peer is a peer id.
	Peer string
	// Groups holds ids of groups all of whose peers are routers.
	Groups []string
	// Metric is 1 to 9999; the lowest of the routers that can be reached is chosen.
	Metric int
	// Masquerade hides the sources behind the router's own address.
	Masquerade bool
}

// A Route leads peers to a prefix or to domains outside of the overlay, without the policies that a resource needs.
type Route struct {
	ID string
	// NetworkID is the name that routes to one destination through several peers have in common.
	NetworkID string
	// Prefix is masked, and not valid when Domains are given.
	Prefix  netip.Prefix
	Domains []string
	// Peer is the id of the peer that carries the traffic; empty when PeerGroups holds the ids of groups that do.
	Peer       string
	PeerGroups []string
	// Groups holds the ids of the groups that get the route.
	Groups []string
	// AccessControlGroups holds group ids; when given, the traffic needs policies with one of them as destination.
	AccessControlGroups []string
	// Metric is 1 to 9999; the lowest of the routes of one network that can be reached is chosen.
	Metric     int
	Masquerade bool
	// KeepRoute keeps addresses that a domain had before.
	KeepRoute bool
	// SkipAutoApply offers an exit node without using it.
	SkipAutoApply bool
}

// A network is what the map needs to know of one: its routers and resources, by id.
type network struct {
	routers   map[string]Router
	resources map[string]Resource
}

var (
	errNoID        = errors.New("it has no id")
	errDestination = errors.New("it needs a prefix without host bits or a domain, and not both")
)

func checkDestination(id string, prefix netip.Prefix, domains ...string) error {
	named := slices.ContainsFunc(domains, func(d string) bool { return d != "" })
	switch {
	case id == "":
		return errNoID
	case named == prefix.IsValid(), prefix != prefix.Masked():
		return errDestination
	}
	return nil
}

// network returns the network of that id and makes it when there is none.
func (e *Engine) network(id string) *network {
	n := e.networks[id]
	if n == nil {
		n = &network{routers: map[string]Router{}, resources: map[string]Resource{}}
		e.networks[id] = n
	}
	return n
}

// leaveNetwork forgets a network without routers and resources.
func (e *Engine) leaveNetwork(id string) {
	if n := e.networks[id]; len(n.routers)+len(n.resources) == 0 {
		delete(e.networks, id)
	}
}

func (b *batch) putResource(r Resource) {
	b.removeResource(r.ID)
	b.e.resources[r.ID] = r.Network
	b.e.network(r.Network).resources[r.ID] = r
	b.rerouteKey(resourceName(r.ID))
}

func (b *batch) removeResource(id string) {
	e := b.e
	in, known := e.resources[id]
	if !known {
		return
	}
	delete(e.resources, id)
	delete(e.networks[in].resources, id)
	e.leaveNetwork(in)
	b.rerouteKey(resourceName(id))
}

func (b *batch) putRouter(r Router) {
	b.removeRouter(r.ID)
	b.e.routers[r.ID] = r.Network
	b.e.network(r.Network).routers[r.ID] = r
	b.reroute(r.Network)
}

func (b *batch) removeRouter(id string) {
	e := b.e
	in, known := e.routers[id]
	if !known {
		return
	}
	delete(e.routers, id)
	delete(e.networks[in].routers, id)
	b.reroute(in)
	e.leaveNetwork(in)
}

func (b *batch) rerouteKey(key string) {
	if b.rerouted == nil {
		b.rerouted = map[string]struct{}{}
	}
	b.rerouted[key] = struct{}{}
}

// reroute notes every resource of a network.
func (b *batch) reroute(network string) {
	for id := range b.e.networks[network].resources {
		b.rerouteKey(resourceName(id))
	}
}

func (b *batch) putRoute(r Route) {
	b.e.routes[r.ID] = r
	b.rerouteKey(routeName(r.ID))
}

func (b *batch) removeRoute(id string) {
	delete(b.e.routes, id)
	b.rerouteKey(routeName(id))
}

// setRoutes brings the routes up to date whose resource, routers or own description changed, each once.
func (b *batch) setRoutes() {
	for key := range b.rerouted {
		b.setRoute(key, b.e.wantedRoute(key))
	}
}

// wantedRoute compiles the route of a key; nil when there is none any more.
func (e *Engine) wantedRoute(key string) *route {
	if id, own := strings.CutPrefix(key, routeName("")); own {
		if r, known := e.routes[id]; known {
			return e.routeOfRoute(r)
		}
		return nil
	}
	id := strings.TrimPrefix(key, resourceName(""))
	in, known := e.resources[id]
	if !known {
		return nil
	}
	return e.routeOfResource(e.networks[in].resources[id])
}

func (b *batch) setRoute(key string, want *route) {
	e := b.e
	before := e.routed[key]
	if before != nil && want != nil && before.equal(want) {
		return
	}
	if before != nil {
		b.noteRoute(before)
		before.unlink()
		delete(e.routed, key)
	}
	if want != nil {
		e.routed[key] = want
		want.link()
		b.noteRoute(want)
	}
}

// noteRoute makes everybody look again who serves, gets or may reach a route.
func (b *batch) noteRoute(rt *route) {
	b.noteTraffic(rt)
	addAll(b.ruled, rt.gets)
	addAll(b.doubtful, rt.gets)
	addAll(b.doubtful, rt.at)
	for _, at := range rt.at {
		for r := range at.destinations {
			addAll(b.ruled, r.sources)
		}
		for r := range at.sources {
			addAll(b.ruled, r.destinations)
		}
	}
}

// noteTraffic makes the routers look again what they forward.
func (b *batch) noteTraffic(rt *route) {
	rt.traffic = nil
	for _, v := range rt.via {
		addAll(b.ruled, v.peers)
		addAll(b.doubtful, v.peers)
	}
}

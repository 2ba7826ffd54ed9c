package netmap

import "net/netip"

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

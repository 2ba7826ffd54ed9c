package netmap

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
)

// firstRoute is the first number that stands for a route in a Picture; ordinals of peers are below it.
const firstRoute = 1 << 25

// A Picture is who may open what to whom at one moment. It does not change when the engine does.
type Picture struct {
	// ends says what the numbers stand for: peers by ordinal, routes from firstRoute on.
	ends     map[uint32]End
	outlooks map[uint32]*outlook // by the ordinal of the peer
}

// An EndKind says what stands at an end of a pair.
type EndKind string

// The kinds of ends.
const (
	EndPeer     EndKind = "peer"
	EndResource EndKind = "resource"
	EndRoute    EndKind = "route"
)

// An End is a peer, a resource of a network or a route.
type End struct {
	Kind     EndKind
	ID, Name string
}

// An outlook is what the peers of a class may open, and what may be opened to them from behind routers.
type outlook struct {
	out, back []grant
}

// A grant is a rule and what stands at its other end.
type grant struct {
	drop     bool
	protocol api.CompiledRuleProtocol
	ports    []api.PortRange
	ends     *roaring.Bitmap
}

// Picture describes the account as it is now. Give several pictures that are compared the
// same Numbers.
func (e *Engine) Picture(numbers *Numbers) *Picture {
	e.mu.RLock()
	defer e.mu.RUnlock()
	p := &Picture{ends: map[uint32]End{}, outlooks: map[uint32]*outlook{}}
	for n, peer := range e.ordinals {
		p.ends[n] = End{EndPeer, peer.ID, peer.Name}
	}
	byID := map[string]uint32{}
	for key, rt := range e.routed {
		n := numbers.of(key)
		byID[rt.id] = n
		kind, id := EndResource, strings.TrimPrefix(key, resourceName(""))
		if rt.gets != nil {
			kind, id = EndRoute, strings.TrimPrefix(key, routeName(""))
		}
		p.ends[n] = End{kind, id, rt.told.Name}
	}
	sets := map[*set]*roaring.Bitmap{}
	for _, c := range e.classes {
		look := c.outlook(byID, sets)
		for ordinals := c.peers.Iterator(); ordinals.HasNext(); {
			p.outlooks[ordinals.Next()] = look
		}
	}
	return p
}

// Numbers gives each route its number. The zero value has given none.
type Numbers struct{ given map[string]uint32 }

func (n *Numbers) of(key string) uint32 {
	if n.given == nil {
		n.given = map[string]uint32{}
	}
	if _, known := n.given[key]; !known {
		n.given[key] = firstRoute + uint32(len(n.given))
	}
	return n.given[key]
}

// outlook reads the view of a class; routes numbers them by id, sets keeps the copies of members for all classes.
func (c *class) outlook(routes map[string]uint32, sets map[*set]*roaring.Bitmap) *outlook {
	members := map[string]*roaring.Bitmap{}
	for _, s := range c.sets {
		if sets[s] == nil {
			sets[s] = s.members.Clone()
		}
		members[s.id] = sets[s]
	}
	look := &outlook{}
	for _, id := range slices.Sorted(maps.Keys(c.rules)) {
		r := c.rules[id]
		g := grant{drop: r.Action == api.CompiledRuleActionDrop, protocol: r.Protocol}
		if r.Ports != nil {
			g.ports = *r.Ports
		}
		switch {
		case r.Direction == api.CompiledRuleDirectionForward, r.quiet:
		case r.Route == nil && r.Direction != api.CompiledRuleDirectionIn:
			g.ends = members[r.Destination]
			look.out = append(look.out, g)
		case r.Route == nil:
		case *r.Route == api.CompiledRuleRouteDestination && c.led(r.Destination, members):
			g.ends = roaring.BitmapOf(routes[r.Destination])
			look.out = append(look.out, g)
		case *r.Route == api.CompiledRuleRouteSource && c.led(r.Source, members):
			g.ends = roaring.BitmapOf(routes[r.Source])
			look.back = append(look.back, g)
		}
	}
	return look
}

// led reports whether a route has a router at all.
func (c *class) led(id string, members map[string]*roaring.Bitmap) bool {
	rt := c.routes[id]
	return rt != nil && rt.Routers != nil && slices.ContainsFunc(*rt.Routers, func(r api.RouteRouter) bool {
		return members[r.Set] != nil && !members[r.Set].IsEmpty()
	})
}

// An access is the traffic that one end may open to another.
type access struct {
	// tcp and udp hold ports.
	tcp, udp    *roaring.Bitmap
	icmp, other bool
}

const ports = 1 << 16

// accessOf adds up the grants that hold an end.
func accessOf(grants []grant) access {
	a := access{tcp: roaring.New(), udp: roaring.New()}
	for _, drops := range []bool{false, true} {
		for _, g := range grants {
			if g.drop == drops {
				a.take(g)
			}
		}
	}
	return a
}

func (a *access) take(g grant) {
	all := g.protocol == api.CompiledRuleProtocolAll
	for _, side := range []struct {
		named api.CompiledRuleProtocol
		held  *roaring.Bitmap
	}{{api.CompiledRuleProtocolTcp, a.tcp}, {api.CompiledRuleProtocolUdp, a.udp}} {
		if !all && g.protocol != side.named {
			continue
		}
		spans := g.ports
		if len(spans) == 0 {
			spans = []api.PortRange{{Start: 0, End: ports - 1}}
		}
		for _, span := range spans {
			if g.drop {
				side.held.RemoveRange(uint64(span.Start), uint64(span.End)+1)
			} else {
				side.held.AddRange(uint64(span.Start), uint64(span.End)+1)
			}
		}
	}
	if all || g.protocol == api.CompiledRuleProtocolIcmp {
		a.icmp = !g.drop
	}
	if all {
		a.other = !g.drop
	}
}

func (a access) none() bool { return a.tcp.IsEmpty() && a.udp.IsEmpty() && !a.icmp && !a.other }

func (a access) equal(o access) bool {
	return a.tcp.Equals(o.tcp) && a.udp.Equals(o.udp) && a.icmp == o.icmp && a.other == o.other
}

// texts lists an access as people write it: all, or such as tcp, tcp/22, udp/5000-5010, icmp, other.
func (a access) texts() []string {
	if a.other && a.icmp && a.tcp.GetCardinality() == ports && a.udp.GetCardinality() == ports {
		return []string{"all"}
	}
	list := append(portTexts("tcp", a.tcp), portTexts("udp", a.udp)...)
	if a.icmp {
		list = append(list, "icmp")
	}
	if a.other {
		list = append(list, "other")
	}
	return list
}

func portTexts(protocol string, held *roaring.Bitmap) []string {
	list := []string{}
	if held.GetCardinality() == ports {
		return append(list, protocol)
	}
	for it := held.Iterator(); it.HasNext(); {
		first := it.Next()
		last := first
		for it.HasNext() && it.PeekNext() == last+1 {
			last = it.Next()
		}
		if first == last {
			list = append(list, fmt.Sprintf("%s/%d", protocol, first))
		} else {
			list = append(list, fmt.Sprintf("%s/%d-%d", protocol, first, last))
		}
	}
	return list
}

package netmap

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/verdict"
)

// A routing is the part of a world that lies outside of the overlay.
type routing struct {
	resources map[string]Resource
	routers   map[string]Router
	routes    map[string]Route
	offers    map[string]Features
}

const (
	worldNetworks  = 2
	worldResources = 3
	worldRouters   = 3
	worldRoutes    = 2
)

func newRouting() routing {
	return routing{map[string]Resource{}, map[string]Router{}, map[string]Route{}, map[string]Features{}}
}

func (r routing) add(a *Account) {
	for _, id := range slices.Sorted(maps.Keys(r.resources)) {
		a.Resources = append(a.Resources, r.resources[id])
	}
	for _, id := range slices.Sorted(maps.Keys(r.routers)) {
		a.Routers = append(a.Routers, r.routers[id])
	}
	for _, id := range slices.Sorted(maps.Keys(r.routes)) {
		a.Routes = append(a.Routes, r.routes[id])
	}
	a.Offers = r.offers
}

func (w *world) changeRouting() Change {
	resource, router, route := fmt.Sprint("n", w.random.IntN(worldResources)), fmt.Sprint("v", w.random.IntN(worldRouters)), fmt.Sprint("t", w.random.IntN(worldRoutes))
	network := fmt.Sprint("w", w.random.IntN(worldNetworks))
	switch pick := w.random.IntN(14); {
	case pick < 5:
		r := Resource{ID: resource, Network: network, Name: fmt.Sprint("name", w.random.IntN(2))}
		if w.random.IntN(3) == 0 {
			r.Domain = "*.example.com"
		} else {
			r.Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(w.random.IntN(2)), 0, 0}), 16)
		}
		if w.random.IntN(4) > 0 {
			r.Groups = w.someGroups()
		}
		w.routing.resources[r.ID] = r
		return ResourcePut{r}
	case pick < 6:
		delete(w.routing.resources, resource)
		return ResourceRemove{resource}
	case pick < 9:
		r := Router{ID: router, Network: network, Metric: 1 + w.random.IntN(2), Masquerade: w.random.IntN(2) == 0}
		r.Peer, r.Groups = w.carrier()
		w.routing.routers[r.ID] = r
		return RouterPut{r}
	case pick < 10:
		delete(w.routing.routers, router)
		return RouterRemove{router}
	case pick < 13:
		r := w.route(route)
		w.routing.routes[r.ID] = r
		return RoutePut{r}
	}
	delete(w.routing.routes, route)
	return RouteRemove{route}
}

func (w *world) carrier() (peer string, groups []string) {
	if w.random.IntN(2) == 0 {
		return fmt.Sprintf("p%d", w.random.IntN(worldPeers)), nil
	}
	return "", []string{fmt.Sprintf("g%d", w.random.IntN(worldGroups))}
}

func (w *world) route(id string) Route {
	r := Route{
		ID: id, NetworkID: fmt.Sprint("net", w.random.IntN(2)), Groups: w.someGroups(), Metric: 1 + w.random.IntN(2),
		Masquerade: w.random.IntN(2) == 0, KeepRoute: w.random.IntN(2) == 0, SkipAutoApply: w.random.IntN(2) == 0,
	}
	r.Peer, r.PeerGroups = w.carrier()
	if w.random.IntN(2) == 0 {
		r.Domains = []string{"b.example.com", "a.example.com"}
	} else {
		r.Prefix = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	if w.random.IntN(2) == 0 {
		r.AccessControlGroups = w.someGroups()
	}
	return r
}

// offer lets an agent offer other features now and then, as when it comes back in another version.
func (tr *trial) offer() {
	ids := tr.world.peerIDs()
	if len(ids) == 0 || tr.world.random.IntN(6) > 0 {
		return
	}
	id := ids[tr.world.random.IntN(len(ids))]
	features := []Features{0, AllFeatures, AllFeatures &^ FeatureKeys, FeatureKeys, AllFeatures &^ FeatureTerms}[tr.world.random.IntN(5)]
	if had, told := tr.world.routing.offers[id]; features == had || !told && features == AllFeatures {
		return
	}
	if err := tr.engine.Offer(id, features); err != nil {
		tr.fatalf("offer of %s: %v", id, err)
	}
	tr.world.routing.offers[id] = features
	// The agent comes back with its map and goes on only if it is the one for its features.
	for _, agents := range []map[string]*mapstate.Map{tr.prompt, tr.slow} {
		if agent := agents[id]; agent != nil {
			from, ok, err := tr.engine.Resume(id, agent.Position())
			if err != nil {
				tr.fatalf("resume of %s with other features: %v", id, err)
			}
			if !ok {
				*agent = *tr.load(id)
			} else {
				agent.Serial = from
			}
		}
	}
}

// routed checks the maps against the meaning of policies for routed traffic, read from the account without the compiler:
// a packet passes between a peer and a resource if and only if the peer uses the route, has a rule for it, sees a router,
// and every router forwards it and sees the peer.
func (tr *trial) routed(want map[string]*mapstate.Map) {
	account := tr.world.account()
	whole := newWhole(testConfig(), account)
	for _, rt := range whole.routes {
		routers := roaring.New()
		for _, v := range rt.via {
			routers.Or(whole.members(plainSet{union: v.peers}))
		}
		compiled := map[string]verdict.Rules{}
		for id, m := range want {
			compiled[id] = tr.routedRules(m, rt)
		}
		for _, p := range account.Peers {
			for _, back := range []bool{false, true} {
				tr.routedPeer(want, compiled, whole, rt, routers, p, back)
			}
		}
	}
}

// outside stands for a route, as an ordinal that no peer has.
const outside = 1 << 25

func (tr *trial) routedPeer(want map[string]*mapstate.Map, compiled map[string]verdict.Rules, whole *whole, rt plainRoute, routers *roaring.Bitmap, p Peer, back bool) {
	serves := slices.ContainsFunc(whole.routes, func(o plainRoute) bool {
		return destinationOf(o.told) == destinationOf(rt.told) &&
			slices.ContainsFunc(o.via, func(v plainVia) bool { return whole.holds(plainSet{union: v.peers}, p.ID) })
	})
	if serves && want[p.ID].Routes.At(rt.id).Role == api.CompiledRouteRoleUse {
		tr.fatalf("%s leads to %s and shall go there through others", p.ID, rt.key)
	}
	everAllowed := false
	for _, packet := range samplePackets(p.Ordinal, outside) {
		if back {
			packet.Source, packet.Destination = packet.Destination, packet.Source
		}
		allowed := tr.mayRoute(whole, rt, p, back, packet)
		everAllowed = everAllowed || allowed
		if uses := compiled[p.ID].Evaluate(packet).Allowed; !serves && uses != (allowed && tr.offers(p.ID)) {
			tr.fatalf("packet %+v between %s and %s: the account allows it %t, the map of the peer %t\n%s", packet, p.ID, rt.key, allowed, uses, show(want[p.ID]))
		}
		for ordinals := routers.Iterator(); ordinals.HasNext(); {
			router := whole.byN[ordinals.Next()]
			forwards := compiled[router.ID].Evaluate(packet).Allowed
			if router.ID != p.ID && forwards != (allowed && tr.offers(router.ID)) {
				tr.fatalf("packet %+v between %s and %s: the account allows it %t, the router %s %t\n%s", packet, p.ID, rt.key, allowed, router.ID, forwards, show(want[router.ID]))
			}
		}
	}
	if !everAllowed || serves || !tr.offers(p.ID) {
		return
	}
	for ordinals := routers.Iterator(); ordinals.HasNext(); {
		router := whole.byN[ordinals.Next()]
		_, sees := want[p.ID].Peers.Get(router.Ordinal)
		_, seen := want[router.ID].Peers.Get(p.Ordinal)
		if !sees || !seen && tr.offers(router.ID) {
			tr.fatalf("%s may reach %s through %s, but one sees %t and the other %t", p.ID, rt.key, router.ID, sees, seen)
		}
	}
}

func (tr *trial) offers(id string) bool {
	features, told := tr.world.routing.offers[id]
	return !told || features&FeatureRoutes != 0
}

// mayRoute reads the policies as people do.
func (tr *trial) mayRoute(whole *whole, rt plainRoute, p Peer, back bool, packet verdict.Packet) bool {
	stands := whole.stands[p.ID]
	if stands == nil {
		return false
	}
	inGets := slices.ContainsFunc(rt.gets, func(name string) bool { return stands[name] })
	if rt.own && (back || !inGets) {
		return false
	}
	if rt.own && len(rt.at) == 0 {
		return true
	}
	accepted := false
	for _, policy := range tr.world.policies {
		for _, r := range policy.Rules {
			if !policy.Enabled || !r.Enabled || r.Monitor || !r.Term.Holds(looked) {
				continue
			}
			sources, destinations := ends(r)
			// meets says whether the policy counts: the source must meet its checks, which a destination behind routers
			// cannot. Drops count for everybody.
			type way struct {
				near, far []string
				meets     bool
			}
			there := way{destinations, sources, r.Drop || tr.world.meets(policy, p.ID)}
			here := way{sources, destinations, r.Drop || len(policy.Checks) == 0}
			ways := []way{there}
			if back {
				ways = []way{here}
			}
			if r.Bidirectional {
				ways = []way{there, here}
			}
			for _, way := range ways {
				about := slices.ContainsFunc(way.near, func(name string) bool { return slices.Contains(rt.at, name) })
				mine := slices.ContainsFunc(way.far, func(name string) bool { return stands[name] })
				if !about || !mine || !way.meets || !matchesRule(r, packet) {
					continue
				}
				if r.Drop {
					return false
				}
				accepted = true
			}
		}
	}
	return accepted
}

func matchesRule(r Rule, packet verdict.Packet) bool {
	protocol, ports := protocolOf(r)
	parsed, _ := verdict.ParseProtocol(string(protocol))
	rule := verdict.Rule{Source: verdict.Only(packet.Source), Destination: verdict.Only(packet.Destination), Protocol: parsed}
	for _, span := range ports {
		rule.Ports = append(rule.Ports, verdict.PortRange{First: uint16(span.Start), Last: uint16(span.End)})
	}
	return verdict.New([]verdict.Rule{rule}).Evaluate(packet).Allowed
}

// routedRules returns the rules of one map that are about a route, for the matcher.
func (tr *trial) routedRules(m *mapstate.Map, rt plainRoute) verdict.Rules {
	route, known := m.Routes.Get(rt.id)
	if !known {
		return verdict.Rules{}
	}
	if route.Role == api.CompiledRouteRoleUse && len(*route.Routers) == 0 {
		tr.fatalf("a route without routers is told")
	}
	var rules []verdict.Rule
	for _, r := range m.Rules.All() {
		if r.Route == nil || !mapstate.TermOf(r).Holds(looked) {
			continue
		}
		protocol, _ := verdict.ParseProtocol(string(r.Protocol))
		rule := verdict.Rule{ID: r.Id, Drop: r.Action == api.CompiledRuleActionDrop, Monitor: mapstate.Monitors(r), Protocol: protocol}
		peers := r.Source
		if *r.Route == api.CompiledRuleRouteSource {
			peers = r.Destination
		}
		var far verdict.Set = verdict.Only(m.Self.N)
		if r.Direction == api.CompiledRuleDirectionForward {
			far = m.Sets.At(peers)
		}
		switch {
		case *r.Route == api.CompiledRuleRouteDestination && r.Destination == rt.id:
			rule.Source, rule.Destination = far, verdict.Only(outside)
		case *r.Route == api.CompiledRuleRouteSource && r.Source == rt.id:
			rule.Source, rule.Destination = verdict.Only(outside), far
		default:
			continue
		}
		if r.Ports != nil {
			for _, span := range *r.Ports {
				rule.Ports = append(rule.Ports, verdict.PortRange{First: uint16(span.Start), Last: uint16(span.End)})
			}
		}
		rules = append(rules, rule)
	}
	return verdict.New(rules)
}

// meetThroughRoute reports whether a route is why a peer sees another: as its router, or as one whose traffic it carries.
func (tr *trial) meetThroughRoute(m *mapstate.Map, other uint32) bool {
	for _, route := range m.Routes.All() {
		if slices.ContainsFunc(m.Candidates(route), func(c mapstate.Candidate) bool { return c.Ordinal == other }) {
			return true
		}
	}
	for _, rule := range m.Rules.All() {
		if rule.Direction != api.CompiledRuleDirectionForward || rule.Action == api.CompiledRuleActionDrop || mapstate.Monitors(rule) {
			continue
		}
		peers := rule.Source
		if *rule.Route == api.CompiledRuleRouteSource {
			peers = rule.Destination
		}
		if m.Sets.At(peers).Contains(other) {
			return true
		}
	}
	return false
}

package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/RoaringBitmap/roaring"
	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/agent/internal/dns"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/table"
)

// TestPlanOfAChangeIsThePlanOfTheWhole changes a map at random: machines come, go, take over what others have, or make no
// sense; sets, rules, routes and names change. What is made out of the plan before must be what is made out of nothing.
func TestPlanOfAChangeIsThePlanOfTheWhole(t *testing.T) {
	keys := make([]string, 24)
	for i := range keys {
		keys[i] = tunnel.GenerateKey().Public().String()
	}
	for seed := range uint64(9) {
		random := rand.New(rand.NewPCG(seed, 4))
		m, former := newMap(t, 1, 1, 2, 3), &desired{}
		m.Self.Key = keys[0]
		for step := range 40 {
			m = m.Clone()
			for range 1 + random.IntN(3) {
				alter(m, keys, random, seed%3 == 0)
			}
			next, whole := plan(former, m, "wt0"), plan(&desired{}, m, "wt0")
			for _, d := range []*desired{next, whole} {
				d.lead(func(x *destination) string {
					if len(x.candidates) == 0 {
						return ""
					}
					return x.candidates[0].Peer
				}, func(string) bool { return false })
			}
			if diff := cmp.Diff(told(whole), told(next)); diff != "" {
				t.Fatalf("seed %d, step %d: the plan differs from that of the whole map: %s", seed, step, diff)
			}
			former = next
		}
	}
}

// told is what the parts of the agent are told, as text.
func told(d *desired) map[string]string {
	text := func(v any) string { return fmt.Sprintf("%+v", v) }
	rules, names, settings := d.firewall, d.dns, d.tunnel
	all := map[string]string{
		"tunnel": text(maps.Collect(settings.Peers.All())), "paths": text(maps.Collect(d.paths.All())),
		"addresses": text(maps.Collect(rules.Peers.All())), "hosts": text(maps.Collect(names.Hosts.All())),
		"owners": text(maps.Collect(d.crowd.owners.All())), "keys": text(maps.Collect(d.crowd.keys.All())),
		"names": text(d.names), "routing": text(d.routing), "refused": text(d.refusals()), "everybody": text(d.crowd.everybody()),
	}
	names.Hosts = table.Table[string, dns.Host]{} // told already
	all["rules"], all["dns"], all["own addresses"] = text(rules.Rules)+text(rules.Routes)+text(rules.KeepPaths), text(names), text(settings.Addresses)
	return all
}

// alter changes one thing about a map. Where claims may clash a machine takes any key, address, name or id.
func alter(m *mapstate.Map, keys []string, random *rand.Rand, clash bool) {
	n := 1 + random.Uint32N(12)
	pick := func() uint32 {
		if clash && random.IntN(4) == 0 {
			return random.Uint32N(12)
		}
		return n
	}
	id := fmt.Sprint("i", random.IntN(4))
	switch random.IntN(10) {
	case 0, 1, 2, 3:
		p := api.PeerEntry{
			N: n, Id: fmt.Sprint("p", pick()), Name: fmt.Sprint("m", pick()), Key: keys[pick()],
			Ip: fmt.Sprint("100.64.0.", pick()), Ipv6: fmt.Sprintf("fd00:64::%x", pick()),
		}
		switch random.IntN(12) {
		case 0:
			p.Key = "short"
		case 1:
			p.Ip = "100.64.0"
		case 2:
			p.Name = "no name"
		case 3:
			p.NextKey = keys[12+pick()%12]
		case 4:
			p.Aliases = []string{fmt.Sprint("a", pick()), "not_one"}
		case 5:
			p.Ipv6 = ""
		}
		m.Peers = m.Peers.With(n, p)
	case 4, 5:
		m.Peers = m.Peers.Without(n)
	case 6:
		set := roaring.New()
		if former := m.Sets.At(id); former != nil {
			set = former.Clone()
		}
		if !set.CheckedAdd(n) {
			set.Remove(n)
		}
		m.Sets = m.Sets.With(id, set)
	case 7:
		m.Rules = m.Rules.With(id, api.CompiledRule{Id: id, Direction: "in", Source: fmt.Sprint("i", random.IntN(4)), Destination: "s", Action: "accept", Protocol: "tcp"})
	case 8:
		m.Routes = m.Routes.With(id, used(id, "n", fmt.Sprintf("10.%d.0.0/16", random.IntN(3)), random.IntN(3)))
	case 9:
		if random.IntN(3) == 0 {
			m.Self.Name = fmt.Sprint("m", pick())
		}
		m.Names.Zones = m.Names.Zones.With(id, api.ZoneView{Id: id, Domain: []string{"corp.test", "no domain"}[random.IntN(2)]})
	}
}

// TestJoinTouchesLittle holds that one more machine does not make the tables of the others anew.
func TestJoinTouchesLittle(t *testing.T) {
	m := crowdedMap(3000)
	before := plan(&desired{}, m, "wt0")
	next := m.Clone()
	admit(next, 4000)
	after := plan(before, next, "wt0")
	if !reflect.DeepEqual(before.terms, after.terms) || len(after.terms.rules) == 0 || &before.terms.rules[0] != &after.terms.rules[0] {
		t.Error("the rules were read again")
	}
	compared := 0
	for range table.Diff(before.crowd.hosts, after.crowd.hosts, func(a, b dns.Host) bool { compared++; return a == b }) {
	}
	if compared > 100 || after.crowd.hosts.Len() != before.crowd.hosts.Len()+1 {
		t.Errorf("%d names are others than before", compared)
	}
}

// crowdedMap is a map of machine 1 that sees count machines, each of which may reach it. Its digest is not that of its content.
func crowdedMap(count uint32) *mapstate.Map {
	m := mapstate.New("1-a", 1, api.SelfView{
		N: 1, Id: "p1", Name: "one", Key: tunnel.GenerateKey().Public().String(), Ip: "100.64.0.1", Ipv6: "fd00:64::1", Approved: true,
		Network: "100.64.0.0/10", NetworkV6: "fd00:64::/48", DnsDomain: "mesh.example",
	})
	m.Sets = m.Sets.With("s", roaring.New())
	m.Rules = m.Rules.With("r", api.CompiledRule{Id: "r", Direction: "both", Source: "s", Destination: "s", Action: "accept", Protocol: "all"})
	for n := range count {
		admit(m, n+2)
	}
	return m
}

// admit lets a machine into the map and its set.
func admit(m *mapstate.Map, n uint32) {
	m.Peers = m.Peers.With(n, api.PeerEntry{
		N: n, Id: fmt.Sprintf("0199a8a0-%012d", n), Name: fmt.Sprint("machine-", n), Key: tunnel.GenerateKey().Public().String(),
		Ip: fmt.Sprintf("100.%d.%d.%d", 64+n>>16, n>>8&255, n&255), Ipv6: fmt.Sprintf("fd00:64::%x", n),
	})
	set := m.Sets.At("s").Clone()
	set.Add(n)
	m.Sets = m.Sets.With("s", set)
}

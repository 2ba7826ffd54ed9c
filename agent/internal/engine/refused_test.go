package engine

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// TestImpossiblePiecesAreRefusedAndTheRestIsInForce gives the engine maps in which one piece makes no sense: status names it
// with the reason, the machine m2 is reached all the same, and nothing of the piece gets through.
func TestImpossiblePiecesAreRefusedAndTheRestIsInForce(t *testing.T) {
	entry := func(n uint32, change func(*api.PeerEntry)) func(*mapstate.Map) {
		return func(m *mapstate.Map) {
			p := m.Peers.At(n)
			change(&p)
			m.Peers = m.Peers.With(n, p)
		}
	}
	rule := func(r api.CompiledRule) func(*mapstate.Map) {
		return func(m *mapstate.Map) { m.Rules = m.Rules.With(r.Id, r) }
	}
	route := func(r api.CompiledRoute) func(*mapstate.Map) {
		return func(m *mapstate.Map) { m.Routes = m.Routes.With(r.Id, r) }
	}
	for name, c := range map[string]struct {
		alter  func(*mapstate.Map)
		kind   string
		reason string
		check  func(*Fake) bool // nil: two other machines are known
	}{
		"short key": {entry(3, func(p *api.PeerEntry) { p.Key = "c2hvcnQ=" }), "peer", "its key is none", func(f *Fake) bool { return f.tunnel.Peers.Len() == 1 && f.peers.Len() == 1 }},
		"key of another": {func(m *mapstate.Map) {
			entry(3, func(p *api.PeerEntry) { p.Key = m.Peers.At(2).Key })(m)
		}, "peer", "its key belongs to m2", func(f *Fake) bool { return f.tunnel.Peers.Len() == 1 }},
		"next key of another": {func(m *mapstate.Map) {
			entry(3, func(p *api.PeerEntry) { p.NextKey = m.Peers.At(2).Key })(m)
		}, "peer", "will change over to belongs to m2", nil},
		"id of another": {entry(3, func(p *api.PeerEntry) { p.Id = "p2" }), "peer", "another peer has its id", func(f *Fake) bool { return f.peers.Len() == 1 }},
		"address of another": {entry(3, func(p *api.PeerEntry) { p.Ip = "100.64.0.2" }), "peer", "its address 100.64.0.2 belongs to m2", func(f *Fake) bool {
			return !f.firewall.Peers.At(3).IPv4.IsValid() && f.firewall.Peers.At(3).IPv6.IsValid()
		}},
		"address of this machine": {entry(3, func(p *api.PeerEntry) { p.Ip = "100.64.0.1" }), "peer", "belongs to this machine", nil},
		"address that is none":    {entry(3, func(p *api.PeerEntry) { p.Ipv6 = "fd00:64::1::3" }), "peer", "its address is none", nil},
		"name that is none":       {entry(3, func(p *api.PeerEntry) { p.Name = "bad name" }), "peer", "reached by its address", func(f *Fake) bool { return f.tunnel.Peers.Len() == 2 && f.names.Hosts.Len() == 2 }},
		"name of another":         {entry(3, func(p *api.PeerEntry) { p.Name = "M2" }), "peer", "the name M2 belongs to m2", func(f *Fake) bool { return f.names.Hosts.At("m2").IPv4 == netip.MustParseAddr("100.64.0.2") }},
		"alias that is none":      {entry(3, func(p *api.PeerEntry) { p.Aliases = []string{strings.Repeat("a", 64)} }), "peer", "is none that the DNS has", nil},
		"rule without its set":    {rule(api.CompiledRule{Id: "x", Direction: "in", Source: "nowhere", Action: "accept", Protocol: "all"}), "rule", "unknown set nowhere", nil},
		"rule of odd protocol":    {rule(api.CompiledRule{Id: "x", Direction: "in", Source: "s", Action: "accept", Protocol: "gre"}), "rule", "unknown protocol", nil},
		"rule with no ports":      {rule(api.CompiledRule{Id: "x", Direction: "in", Source: "s", Action: "accept", Protocol: "tcp", Ports: &[]api.PortRange{{Start: 9, End: 3}}}), "rule", "names no ports", nil},
		"route without a router":  {route(api.CompiledRoute{Id: "x", Name: "x", Role: "use", Prefix: new("10.0.0.0/8")}), "route", "names 0 routers", nil},
		"route that is no range":  {route(used("x", "n", "10.0.0.1/8", 1)), "route", "which is none", nil},
		"zone that is none":       {func(m *mapstate.Map) { m.Names.Zones = m.Names.Zones.With("x", api.ZoneView{Id: "x", Domain: "a b"}) }, "zone", "domain", nil},
		"record of no zone":       {func(m *mapstate.Map) { m.Names.Records = m.Names.Records.With("x", api.RecordView{Id: "x", Zone: "y"}) }, "record", "unknown DNS zone y", nil},
		"name server that is none": {func(m *mapstate.Map) {
			m.Names.Nameservers = m.Names.Nameservers.With("x", api.NameserverView{Id: "x", Servers: []api.Nameserver{{Ip: "192.0.2", Port: 53}}})
		}, "nameserver", "has no server at", func(f *Fake) bool { return len(f.names.Nameservers) == 0 }},
		"own address outside of the network": {func(m *mapstate.Map) { m.Self.Ip = "10.0.0.1" }, "address", "lies outside of", func(f *Fake) bool { return len(f.tunnel.Addresses) == 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			l, fake, _ := newTestLink(t)
			m := newMap(t, 1, 2, 3)
			c.alter(m)
			if faults := l.apply(t.Context(), m); len(faults) > 0 {
				t.Fatal(faults)
			}
			check := c.check
			if check == nil {
				check = func(f *Fake) bool { return f.tunnel.Peers.Len() == 2 }
			}
			key, err := tunnel.ParsePublicKey(m.Peers.At(2).Key)
			if err != nil {
				t.Fatal(err)
			}
			if !check(fake) || len(fake.tunnel.Peers.At(key).AllowedIPs) != 2 || len(fake.firewall.Rules) != 1 || len(fake.routes.Config().Destinations) > 0 {
				t.Errorf("the machine was told %+v and %+v", fake.tunnel, fake.firewall.Rules)
			}
			said := local.Status{}
			describeRefused(&said, l.planned.refusals())
			if len(said.Refused) == 0 || said.Refused[0].Kind != c.kind || !strings.Contains(said.Refused[0].Reason, c.reason) {
				t.Errorf("the status says %+v, want %s: %s", said.Refused, c.kind, c.reason)
			}
			if len(said.Warnings) != len(said.Refused) || !strings.Contains(said.Warnings[0], c.reason) {
				t.Errorf("warnings %q", said.Warnings)
			}
		})
	}
}

// TestRuleThatCloses holds that a rule which is not understood opens nothing by its absence.
func TestRuleThatCloses(t *testing.T) {
	l, fake, _ := newTestLink(t)
	m := newMap(t, 1, 2, 3)
	m.Rules = m.Rules.With("x", api.CompiledRule{Id: "x", Direction: "in", Source: "s", Action: "drop", Protocol: "gre"})
	if faults := l.apply(t.Context(), m); len(faults) > 0 {
		t.Fatal(faults)
	}
	if len(fake.firewall.Rules) != 2 || fake.firewall.Rules[1].Action != "drop" || fake.firewall.Rules[1].Protocol != "all" {
		t.Errorf("rules %+v", fake.firewall.Rules)
	}
}

// TestManyRefusalsFitTheStatus holds that a map full of nonsense does not fill the screen.
func TestManyRefusalsFitTheStatus(t *testing.T) {
	l, _, _ := newTestLink(t)
	m := crowdedMap(50)
	for n := range uint32(50) {
		p := m.Peers.At(n + 2)
		p.Key = fmt.Sprint("key ", n)
		m.Peers = m.Peers.With(n+2, p)
	}
	l.apply(t.Context(), m)
	status := local.Status{}
	l.describe(&status, &identity.Identity{})
	if len(status.Refused) != 50 || len(status.Warnings) != refusedShown+1 {
		t.Errorf("%d refused, warnings %q", len(status.Refused), status.Warnings)
	}
}

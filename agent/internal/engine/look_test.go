package engine

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// looking is the engine of machine 1: db may be reached on tcp/5432, web may
// come in, office lies behind gw, and what web sends to udp/53 is dropped. For
// office there are a rule that is over and one that only counts, too.
func looking(t *testing.T) *Engine {
	t.Helper()
	l, _, _ := newTestLink(t)
	self := api.SelfView{
		N: 1, Id: "p1", Name: "one", Ip: "100.64.0.1", Ipv6: "fd00:64::1", Approved: true,
		Network: "100.64.0.0/16", NetworkV6: "fd00:64::/64", DnsDomain: "mesh.example",
	}
	var all mapstate.Content
	set := func(id string, members ...uint32) {
		all.Sets = append(all.Sets, api.PeerSet{Id: id, Members: api.Ordinals{List: &members}})
	}
	for n, name := range map[uint32]string{2: "db", 3: "web", 4: "gw"} {
		digit := string(rune('0' + n))
		all.Peers = append(all.Peers, api.PeerEntry{
			N: n, Id: "p" + digit, Name: name, Key: tunnel.GenerateKey().Public().String(), Ip: "100.64.0." + digit, Ipv6: "fd00:64::" + digit,
		})
	}
	set("dbs", 2)
	set("webs", 3)
	set("gws", 4)
	ports := func(first int) *[]api.PortRange { return &[]api.PortRange{{Start: first, End: first}} }
	all.Routes = []api.CompiledRoute{
		{Id: "office", Name: "office", Network: "n", Prefix: new("10.0.0.0/8"), Role: "use", Routers: &[]api.RouteRouter{{Set: "gws", Metric: 1}}},
		{Id: "lab", Name: "lab", Network: "m", Prefix: new("10.1.0.0/16"), Role: "serve"},
	}
	all.Rules = []api.CompiledRule{
		{Id: "postgres", Direction: "out", Source: "dbs", Destination: "dbs", Action: "accept", Protocol: "tcp", Ports: ports(5432)},
		{Id: "all-in", Direction: "in", Source: "webs", Destination: "webs", Action: "accept", Protocol: "all"},
		{Id: "no-dns", Direction: "in", Source: "webs", Destination: "webs", Action: "drop", Protocol: "udp", Ports: ports(53)},
		{Id: "was-office", Direction: "out", Source: "gws", Destination: "office", Route: new(api.CompiledRuleRouteDestination), Action: "accept", Protocol: "tcp", Ports: ports(22), NotAfter: new(l.wall().Add(-time.Hour))},
		{Id: "may-office", Direction: "out", Source: "gws", Destination: "office", Route: new(api.CompiledRuleRouteDestination), Action: "accept", Protocol: "tcp", Ports: ports(80), Mode: new(api.CompiledRuleModeMonitor)},
		{Id: "to-office", Direction: "out", Source: "gws", Destination: "office", Route: new(api.CompiledRuleRouteDestination), Action: "accept", Protocol: "tcp", Ports: ports(443)},
	}
	m, err := mapstate.Assemble("1-a", 1, self, all)
	if err != nil {
		t.Fatal(err)
	}
	if faults := l.apply(t.Context(), m); len(faults) != 0 {
		t.Fatal(faults)
	}
	return &Engine{link: l}
}

// TestRoutesThatAreDeclined: a machine whose user wants no routes has none.
func TestRoutesThatAreDeclined(t *testing.T) {
	e := looking(t)
	ask := func() local.TraceAnswer {
		t.Helper()
		traced, err := e.Trace(t.Context(), local.FlowRequest{Direction: "out", Source: "one", Destination: "10.9.9.9", Protocol: "tcp", Port: 443})
		if err != nil {
			t.Fatal(err)
		}
		return traced
	}
	if traced := ask(); !traced.Passes {
		t.Fatalf("%+v", traced)
	}
	e.link.under = func(*mapstate.Map) settings.Values { return settings.Values{} }
	if faults := e.link.apply(t.Context(), e.link.applied); len(faults) != 0 {
		t.Fatal(faults)
	}
	if traced := ask(); traced.Passes || !strings.Contains(traced.Steps[len(traced.Steps)-1].Detail, "accept_routes") {
		t.Errorf("%+v", traced)
	}
}

func TestWhois(t *testing.T) {
	e := looking(t)
	for address, want := range map[string]string{
		"one": "self one", "100.64.0.1": "self one", "fd00:64::1": "self one",
		"db": "peer db", "db.mesh.example": "peer db", "100.64.0.2": "peer db", "::ffff:100.64.0.2": "peer db",
		"10.9.9.9": "route office", "10.1.2.3": "route lab", "192.0.2.1": "", "nobody": "", "100.64.7.7": "",
	} {
		got, err := e.Whois(t.Context(), local.WhoisRequest{Address: address})
		if want == "" {
			if err == nil {
				t.Errorf("%s is %+v", address, got)
			}
			continue
		}
		if err != nil || got.Kind+" "+got.Name != want {
			t.Errorf("%s is %s %s, want %s; %v", address, got.Kind, got.Name, want, err)
		}
	}
	if got, _ := e.Whois(t.Context(), local.WhoisRequest{Address: "10.9.9.9"}); len(got.Routers) != 1 || got.Routers[0] != "gw" || got.Prefix != "10.0.0.0/8" {
		t.Errorf("route %+v", got)
	}
}

func TestTraceAndAccess(t *testing.T) {
	e := looking(t)
	for _, test := range []struct {
		direction, from, to, protocol string
		port                          uint16
		passes                        bool
		last, detail                  string
	}{
		{"out", "one", "db", "tcp", 5432, true, "path", ""},
		{"out", "100.64.0.1", "100.64.0.2", "tcp", 5432, true, "path", ""},
		{"out", "one", "db", "tcp", 22, false, "rules", "no rule"},
		{"out", "one", "web", "icmp", 0, false, "rules", "no rule"},
		{"out", "one", "nobody", "icmp", 0, false, "destination", "nothing"},
		{"out", "one", "one", "icmp", 0, false, "destination", "itself"},
		{"out", "db", "web", "icmp", 0, false, "source", "no address of this machine"},
		{"out", "one", "10.9.9.9", "tcp", 443, true, "path", ""},
		{"out", "one", "10.9.9.9", "tcp", 22, false, "rules", "no rule"}, // one did, and is over
		{"out", "one", "10.9.9.9", "tcp", 80, false, "rules", "no rule"}, // one only counts
		{"out", "one", "10.1.2.3", "tcp", 443, false, "route", "itself"},
		{"in", "web", "one", "tcp", 22, true, "host", ""},
		{"in", "web", "one", "udp", 53, false, "rules", "no-dns"},
		{"in", "fd00:64::3", "fd00:64::1", "icmp", 0, true, "host", ""},
		{"in", "db", "one", "tcp", 5432, false, "rules", "no rule"},
		{"in", "192.0.2.1", "one", "tcp", 22, false, "source", "WireGuard"},
		{"in", "web", "db", "tcp", 22, false, "destination", "no address of this machine"},
		{"in", "one", "one", "tcp", 22, false, "source", "itself"},
	} {
		request := local.FlowRequest{Direction: test.direction, Source: test.from, Destination: test.to, Protocol: test.protocol, Port: test.port}
		traced, err := e.Trace(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		last := traced.Steps[len(traced.Steps)-1]
		if traced.Passes != test.passes || last.Passes != test.passes || last.Step != test.last || !strings.Contains(last.Detail, test.detail) {
			t.Errorf("%+v: %+v", request, traced)
		}
		// One judge: access says what the step of the rules says.
		answer, err := e.Access(t.Context(), request)
		if test.last == "source" || test.last == "destination" || test.last == "route" {
			if err == nil && answer.Allowed {
				t.Errorf("%+v: access is allowed", request)
			}
			continue
		}
		if err != nil || answer.Allowed != test.passes {
			t.Errorf("%+v: access %+v, %v", request, answer, err)
		}
	}
	for _, request := range []local.FlowRequest{
		{Direction: "up", Source: "one", Destination: "db", Protocol: "tcp", Port: 1},
		{Direction: "out", Source: "one", Destination: "db", Protocol: "gre"},
	} {
		if _, err := e.Trace(context.Background(), request); err == nil {
			t.Errorf("%+v is understood", request)
		}
	}
}

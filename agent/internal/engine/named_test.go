package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/dns"
	"github.com/wattlenet/wattle/generated/api"
)

// named is a route to domains that machine 1 uses.
func named(id string, domains ...string) api.CompiledRoute {
	r := used(id, id, "", 1)
	r.Prefix, r.Domains = nil, &domains
	return r
}

func TestDomainsHoldNames(t *testing.T) {
	d := &destination{views: []api.CompiledRoute{named("r", "git.example.org", "*.Apps.example.org")}}
	for name, want := range map[string]bool{
		"git.example.org": true, "a.git.example.org": false, "example.org": false, "xgit.example.org": false,
		"a.apps.example.org": true, "b.a.apps.example.org": true, "apps.example.org": false, "xapps.example.org": false,
	} {
		if got := d.holds(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestMeaningsEndAndAreBounded(t *testing.T) {
	var m meanings
	now, addr := time.Unix(1e9, 0), netip.MustParseAddr("192.0.2.1")
	if !m.add("k", "n", []netip.Addr{addr}, now, time.Hour) || m.add("k", "n", []netip.Addr{addr}, now.Add(30*time.Minute), time.Hour) {
		t.Error("an address is new once")
	}
	if got := m.of("k", now.Add(80*time.Minute)); !slices.Equal(got, []netip.Addr{addr}) {
		t.Errorf("the second answer did not prolong it: %v", got)
	}
	if got := m.of("k", now.Add(90*time.Minute)); len(got) != 0 {
		t.Errorf("it outlives its time: %v", got)
	}
	for i := range 2 * namedLimit {
		next := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		m.add("k", fmt.Sprint("n", i), []netip.Addr{next}, now.Add(time.Duration(i)), time.Hour)
	}
	got := m.of("k", now)
	if len(got) != namedLimit || slices.Contains(got, netip.AddrFrom4([4]byte{10, 0, 0, 0})) || !slices.Contains(got, netip.AddrFrom4([4]byte{10, 0, 7, 255})) {
		t.Errorf("%d addresses, the last among them: %v", len(got), slices.Contains(got, netip.AddrFrom4([4]byte{10, 0, 7, 255})))
	}
}

// TestAnswerWaitsForItsRoute: when the hook returns, firewall, tunnel and host
// know the address.
func TestAnswerWaitsForItsRoute(t *testing.T) {
	l, fake, _ := newTestLink(t)
	m := newMap(t, 1, 1, 2, 3)
	m.Routes = m.Routes.With("r", named("r", "git.example.org"))
	applied := make(chan struct{}, 8)
	l.changed = func() { applied <- struct{}{} }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.applyNewest(ctx) }()
	defer func() { cancel(); <-done; l.tasks.Wait() }()
	l.give(m)
	<-applied
	fake.Calls()
	outside := netip.MustParseAddr("192.0.2.1")
	l.answered(ctx, dns.Answered{Name: "other.example.org", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.9")}})
	if calls := fake.Calls(); len(calls) > 0 {
		t.Errorf("a name of nobody's route changes something: %v", calls)
	}
	// Addresses of the network itself and of this machine are no answer.
	l.answered(ctx, dns.Answered{Name: "git.example.org", Addrs: []netip.Addr{outside, netip.MustParseAddr("100.64.0.3"), netip.MustParseAddr("127.0.0.1")}})
	if calls := fake.Calls(); calls[0] != "learn" || !slices.Contains(calls, "tunnel") {
		t.Errorf("calls %v", calls)
	}
	_, wanted, _, _ := l.snapshot()
	if got := wanted.allowedTo("m2"); !slices.Equal(got, []netip.Prefix{netip.PrefixFrom(outside, 32)}) {
		t.Errorf("the router has %v", got)
	}
	if got := fake.routes.Config().Destinations; !slices.Equal(got, []netip.Prefix{netip.PrefixFrom(outside, 32)}) {
		t.Errorf("the host leads %v", got)
	}
}

func TestNamesAreAskedOfTheRouter(t *testing.T) {
	d := network(t, named("r", "git.example.org", "*.apps.example.org"))
	at := slices.IndexFunc(d.dns.Nameservers, func(n dns.Nameservers) bool { return slices.Contains(n.Domains, "apps.example.org") })
	if at < 0 || len(d.dns.Nameservers[at].Servers) != 2 || d.dns.Nameservers[at].Servers[0].Addr != netip.MustParseAddrPort("100.64.0.2:53") {
		t.Fatalf("name servers %+v", d.dns.Nameservers)
	}
	if !slices.ContainsFunc(d.firewall.Rules, func(r api.CompiledRule) bool {
		return r.Direction == "out" && r.Destination == "s" && r.Protocol == "udp" && (*r.Ports)[0].Start == 53
	}) {
		t.Error("the firewall does not let questions out")
	}
	if !slices.Contains(d.names.Match, "apps.example.org") {
		t.Errorf("programs ask the resolver for %v only", d.names.Match)
	}
}

func TestRouterAnswersForItsNames(t *testing.T) {
	m := newMap(t, 1, 1, 2, 3)
	route, end := named("r", "git.example.org"), api.CompiledRuleRouteDestination
	route.Role, route.Routers = api.CompiledRouteRoleServe, nil
	m.Routes = m.Routes.With("r", route)
	m.Rules = m.Rules.With("f", api.CompiledRule{Id: "f", Direction: "forward", Route: &end, Source: "s", Destination: "r", Action: "accept", Protocol: "tcp"})
	d := plan(&desired{}, m, "wt0")
	d.lead(func(*destination) string { return "" }, func(string) bool { return false })
	if !slices.Equal(d.dns.Shared, []string{"git.example.org"}) {
		t.Errorf("peers may ask for %v", d.dns.Shared)
	}
	if !slices.ContainsFunc(d.firewall.Rules, func(r api.CompiledRule) bool {
		return r.Direction == "in" && r.Source == "s" && r.Protocol == "tcp" && r.Ports != nil && (*r.Ports)[0].End == 53
	}) {
		t.Error("the firewall does not let questions in")
	}
}

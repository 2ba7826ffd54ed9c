package engine

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
)

// network is desired state with routes in the hand of a test: machine 1 and the
// routers m2 and m3.
func network(t *testing.T, routes ...api.CompiledRoute) *desired {
	t.Helper()
	m := newMap(t, 1, 1, 2, 3)
	for _, r := range routes {
		m.Routes = m.Routes.With(r.Id, r)
	}
	d := plan(&desired{}, m, "wt0")
	d.lead(func(x *destination) string {
		if len(x.candidates) == 0 {
			return ""
		}
		return x.candidates[0].Peer
	}, func(string) bool { return false })
	return d
}

// used is a route that machine 1 uses; the set s of newMap holds all machines.
func used(id, network, prefix string, metric int) api.CompiledRoute {
	return api.CompiledRoute{
		Id: id, Name: id, Network: network, Role: api.CompiledRouteRoleUse, Prefix: &prefix, Routers: &[]api.RouteRouter{{Set: "s", Metric: metric}},
	}
}

func served(id, prefix string) api.CompiledRoute {
	return api.CompiledRoute{Id: id, Name: id, Network: id, Role: api.CompiledRouteRoleServe, Prefix: &prefix}
}

func (d *desired) allowedTo(name string) []netip.Prefix {
	for _, p := range d.crowd.everybody() {
		if p.entry.Name == name {
			return d.tunnel.Peers.At(p.key).AllowedIPs[2:] // behind its own addresses
		}
	}
	return nil
}

func ranges(list ...string) (parsed []netip.Prefix) {
	for _, text := range list {
		parsed = append(parsed, netip.MustParsePrefix(text))
	}
	return parsed
}

func TestRouteLeadsToItsRouter(t *testing.T) {
	d := network(t, used("office", "n", "10.1.0.0/16", 100), used("lab", "n", "fd12::/32", 100))
	if got := d.allowedTo("m2"); !slices.Equal(got, ranges("fd12::/32", "10.1.0.0/16")) {
		t.Errorf("the router has %v", got)
	}
	if got := d.allowedTo("m3"); len(got) > 0 {
		t.Errorf("the other router has %v", got)
	}
	if !slices.Equal(d.routing.Destinations, ranges("fd12::/32", "10.1.0.0/16")) || len(d.routing.Carried) > 0 || !d.firewall.KeepPaths {
		t.Errorf("the host is told %+v", d.routing)
	}
	if got := d.destinations[0].routers; !slices.Equal(got, []string{"m2", "m3"}) {
		t.Errorf("routers %v, want the two others", got)
	}
}

func TestRangeBelongsToOneDestination(t *testing.T) {
	d := network(t, used("a", "x", "10.1.0.0/16", 100), used("b", "y", "10.1.0.0/16", 50), used("c", "z", "10.1.0.0/16", 60), used("d", "y", "10.1.0.0/16", 70))
	refused := map[string]string{}
	for _, x := range d.destinations {
		refused[x.views[0].Name] = x.refusal
	}
	if refused["b"] != "" || !strings.Contains(refused["a"], "the route b") || !strings.Contains(refused["c"], "the route b") {
		t.Errorf("refusals %v", refused)
	}
	if _, apart := refused["d"]; apart {
		t.Error("a route that stands in for b is a destination of its own")
	}
	// The device takes it: a prefix with two owners would be an error.
	owners := map[netip.Prefix]tunnel.PublicKey{}
	for _, p := range d.tunnel.Peers.All() {
		for _, prefix := range p.AllowedIPs {
			if _, taken := owners[prefix]; taken {
				t.Errorf("%s has two owners", prefix)
			}
			owners[prefix] = p.PublicKey
		}
	}
}

func TestImpossibleRoutesAreRefused(t *testing.T) {
	for prefix, reason := range map[string]string{
		"100.64.0.0/16": "inside of the network's own", "100.64.7.0/24": "inside of the network's own",
		"127.0.0.0/8": "never leave a machine", "fe80::/64": "never leave a machine", "224.0.0.0/4": "never leave a machine",
	} {
		d := network(t, used("r", "n", prefix, 1))
		if !strings.Contains(d.destinations[0].refusal, reason) || len(d.routing.Destinations) > 0 {
			t.Errorf("%s: refused with %q", prefix, d.destinations[0].refusal)
		}
	}
	if d := network(t, used("r", "n", "100.0.0.0/8", 1)); d.destinations[0].refusal != "" {
		t.Errorf("a range around the network is refused: %s", d.destinations[0].refusal)
	}
}

func TestServedRouteIsCarriedAndNotUsed(t *testing.T) {
	d := network(t, served("own", "10.1.0.0/16"), used("others", "n", "10.1.0.0/16", 1))
	if !slices.Equal(d.routing.Carried, ranges("10.1.0.0/16")) || len(d.routing.Destinations) > 0 {
		t.Errorf("the host is told %+v", d.routing)
	}
	if to := d.firewall.Routes["own"]; to.Prefix != netip.MustParsePrefix("10.1.0.0/16") {
		t.Errorf("the firewall knows %+v", to)
	}
}

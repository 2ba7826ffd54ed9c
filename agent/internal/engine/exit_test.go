package engine

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/agent/internal/route"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/generated/api"
)

func TestExitNode(t *testing.T) {
	offered := func(id, prefix string, only bool) api.CompiledRoute {
		r := used(id, "exit", prefix, 1)
		r.SkipAutoApply = &only
		return r
	}
	both := []api.CompiledRoute{offered("v4", "0.0.0.0/0", true), offered("v6", "::/0", true)}
	applied := []api.CompiledRoute{offered("v4", "0.0.0.0/0", false)}
	all, v4 := everything(), everything()[:1]
	for _, c := range []struct {
		name    string
		routes  []api.CompiledRoute
		wish    exitWish
		down    bool
		led     []netip.Prefix
		refused []netip.Prefix
		router  string
		warning string
	}{
		{name: "offered", routes: both},
		{name: "asked for", routes: both, wish: exitWish{node: "m3"}, led: all, refused: all, router: "p3"},
		{name: "applied by the network, one family", routes: applied, led: v4, refused: all, router: "p2"},
		{name: "off", routes: applied, wish: exitWish{off: true}},
		{name: "asked for, not there", routes: both, wish: exitWish{node: "m9"}, refused: all, warning: "no exit node m9 is offered"},
		{name: "asked for, not there, open", routes: both, wish: exitWish{node: "m9", failsOpen: true}, warning: "is open"},
		{name: "dead", routes: applied, down: true, led: v4, refused: all, router: "p2", warning: "does not answer"},
		{name: "dead, open", routes: applied, down: true, wish: exitWish{failsOpen: true}, router: "p2", warning: "is open"},
		{name: "alive, open", routes: applied, wish: exitWish{failsOpen: true}, led: v4, refused: all, router: "p2"},
		{name: "this machine is one", routes: append(both, served("own", "0.0.0.0/0")), wish: exitWish{node: "m3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMap(t, 1, 1, 2, 3)
			for _, r := range c.routes {
				m.Routes = m.Routes.With(r.Id, r)
			}
			d := plan(&desired{}, m, "wt0")
			d.chooseExit(c.wish)
			d.lead(func(x *destination) string {
				if len(x.candidates) == 0 {
					return ""
				}
				return x.candidates[0].Peer
			}, func(string) bool { return c.down })
			if !slices.Equal(d.routing.Destinations, c.led) || !slices.Equal(d.routing.Refused, c.refused) {
				t.Errorf("leads %v and refuses %v, want %v and %v", d.routing.Destinations, d.routing.Refused, c.led, c.refused)
			}
			if got := d.destinations[0]; c.router != "" && got.router != c.router {
				t.Errorf("%s carries it, want %s (%s)", got.router, c.router, got.refusal)
			}
			warning := strings.Join(d.exit.warnings(c.down), " ")
			if (warning == "") != (c.warning == "") || !strings.Contains(warning, c.warning) {
				t.Errorf("warning %q, want %q", warning, c.warning)
			}
		})
	}
}

// TestExitNodeLeaksNothing sends packets into the host that the wishes make.
func TestExitNodeLeaksNothing(t *testing.T) {
	m := newMap(t, 1, 1, 2)
	m.Routes = m.Routes.With("r", used("r", "exit", "0.0.0.0/0", 1))
	lan := netip.MustParsePrefix("192.168.7.0/24")
	for _, c := range []struct {
		local            bool
		v4, v6, toLAN    route.Way
		alone, aloneOfV6 route.Way
	}{
		{true, route.WayTunnel, route.WayRefused, route.WayHost, route.WayRefused, route.WayRefused},
		{false, route.WayTunnel, route.WayRefused, route.WayTunnel, route.WayRefused, route.WayRefused},
	} {
		d := plan(&desired{}, m, "wt0")
		v := settings.Defaults()
		v.ExitNodeLocal = c.local
		d.chooseExit(exitWishOf(v))
		d.lead(func(x *destination) string { return x.candidates[0].Peer }, func(string) bool { return false })
		host := &route.Fake{Local: map[netip.Prefix]string{lan: "eth0"}}
		ways := func() [3]route.Way {
			if err := host.Set(t.Context(), d.routing); err != nil {
				t.Fatal(err)
			}
			to := func(text string) route.Way { return host.Way(netip.MustParseAddr(text), false) }
			return [3]route.Way{to("198.51.100.1"), to("2001:db8::1"), to("192.168.7.9")}
		}
		if got, want := ways(), [3]route.Way{c.v4, c.v6, c.toLAN}; got != want {
			t.Errorf("local %v: %v, want %v", c.local, got, want)
		}
		d.routing.Destinations = nil // as when the tunnel is gone
		if got := ways(); got[0] != c.alone || got[1] != c.aloneOfV6 {
			t.Errorf("local %v, without the tunnel: %v", c.local, got)
		}
	}
}

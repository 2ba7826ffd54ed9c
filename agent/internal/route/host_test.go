package route

import (
	"net/netip"
	"slices"
	"testing"
)

// subnet is what the hosts of these tests reach by themselves, beside a default route.
var subnet = netip.MustParsePrefix("192.168.7.0/24")

func prefixes(list ...string) (parsed []netip.Prefix) {
	for _, text := range list {
		parsed = append(parsed, netip.MustParsePrefix(text))
	}
	return parsed
}

// conforms is what every Host does. open makes one of the same host, one at a
// time, and way asks the host where a packet goes.
func conforms(t *testing.T, open func() Host, way func(to netip.Addr, marked bool) Way) {
	t.Helper()
	h := open()
	networks := prefixes("100.88.0.0/16", "fd00:88::/64")
	steps := []struct {
		name   string
		config Config
		ways   map[string]Way // a leading ! is a marked packet
		local  int
	}{
		{"nothing", Config{Networks: networks}, map[string]Way{"10.1.0.1": WayHost, "192.168.7.9": WayHost}, 0},
		{
			"a subnet",
			Config{Networks: networks, Destinations: prefixes("10.1.0.0/16", "fd12::/32")},
			map[string]Way{
				"10.1.0.1": WayTunnel, "!10.1.0.1": WayHost, "10.2.0.1": WayHost, "100.88.3.4": WayTunnel,
				"192.168.7.9": WayHost, "fd12::5": WayTunnel, "!fd12::5": WayHost, "fd00:88::5": WayTunnel,
			},
			0,
		},
		{
			"another in its place",
			Config{Networks: networks, Destinations: prefixes("10.2.0.0/16", "10.2.3.0/24")},
			map[string]Way{"10.1.0.1": WayHost, "10.2.3.1": WayTunnel, "fd12::5": WayHost},
			0,
		},
		{
			"one that holds a local subnet",
			Config{Networks: networks, Destinations: prefixes("192.168.0.0/16")},
			map[string]Way{"192.168.7.9": WayHost, "192.168.8.9": WayTunnel},
			1,
		},
		{
			"one inside of a local subnet",
			Config{Networks: networks, Destinations: prefixes("192.168.7.128/25")},
			map[string]Way{"192.168.7.200": WayHost},
			1,
		},
		{
			"everything",
			Config{Networks: networks, Destinations: prefixes("0.0.0.0/0"), Refused: prefixes("::/0")},
			map[string]Way{
				"198.51.100.1": WayTunnel, "!198.51.100.1": WayHost, "192.168.7.9": WayHost, "2001:db8::1": WayRefused, "!2001:db8::1": WayHost,
			},
			0,
		},
		{
			"everything, or nothing",
			Config{Networks: networks, Refused: prefixes("0.0.0.0/0", "::/0")},
			map[string]Way{"198.51.100.1": WayRefused, "192.168.7.9": WayHost, "2001:db8::1": WayRefused},
			0,
		},
		{
			"everything, local subnets too",
			Config{Networks: networks, Destinations: prefixes("0.0.0.0/0", "::/0"), Refused: prefixes("0.0.0.0/0", "::/0"), LocalToo: true},
			map[string]Way{"198.51.100.1": WayTunnel, "192.168.7.9": WayTunnel, "!192.168.7.9": WayHost, "100.88.3.4": WayTunnel},
			0,
		},
		{"nothing again", Config{}, map[string]Way{"198.51.100.1": WayHost, "2001:db8::1": WayHost}, 0},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			for range 2 { // the second time changes nothing
				if err := h.Set(t.Context(), step.config); err != nil {
					t.Fatal(err)
				}
			}
			for text, want := range step.ways {
				marked := text[0] == '!'
				addr := netip.MustParseAddr(text[len(text)-len(trimmed(text)):])
				if got := way(addr, marked); got != want {
					t.Errorf("a packet to %s goes to %s, want %s", text, got, want)
				}
			}
			if got := h.Status().Local; len(got) != step.local || step.local > 0 && got[0].Subnet != subnet {
				t.Errorf("local subnets %v, want %d of %s", got, step.local, subnet)
			}
		})
	}
	if err := h.Set(t.Context(), steps[1].config); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"10.1.0.1", "fd12::5"} {
		if got := way(netip.MustParseAddr(text), false); got != WayHost {
			t.Errorf("after Close a packet to %s goes to %s", text, got)
		}
	}
	if err := h.Set(t.Context(), steps[1].config); err == nil {
		t.Error("Set after Close succeeds")
	}
	suspends(t, open, way)
}

// suspends ends a Host that another one follows: what it refused is refused until
// the other one is told what to do.
func suspends(t *testing.T, open func() Host, way func(to netip.Addr, marked bool) Way) {
	t.Helper()
	out := netip.MustParseAddr("2001:db8::1")
	for _, step := range []struct {
		name          string
		before, after Config
		refuses       bool
		between, then Way
	}{
		{"nothing is refused", Config{Destinations: prefixes("10.1.0.0/16", "2001:db8::/32")}, Config{}, false, WayHost, WayHost},
		{"something is", Config{Destinations: prefixes("10.1.0.0/16"), Refused: prefixes("::/0")}, Config{Refused: prefixes("::/0")}, true, WayRefused, WayRefused},
		{"until then", Config{Refused: prefixes("::/0")}, Config{Destinations: prefixes("2001:db8::/32")}, true, WayRefused, WayTunnel},
	} {
		h := open()
		if err := h.Set(t.Context(), step.before); err != nil {
			t.Fatal(err)
		}
		refuses, err := h.Suspend()
		if err != nil || refuses != step.refuses {
			t.Errorf("%s: it refuses: %t, %v", step.name, refuses, err)
		}
		if err := h.Close(); err != nil {
			t.Errorf("%s: closed after: %v", step.name, err)
		}
		if err := h.Set(t.Context(), step.before); err == nil {
			t.Errorf("%s: Set after Suspend succeeds", step.name)
		}
		if got := way(out, false); got != step.between {
			t.Errorf("%s: after Suspend a packet goes to %s, want %s", step.name, got, step.between)
		}
		next := open()
		if got := way(out, false); got != step.between {
			t.Errorf("%s: before the next one is told, a packet goes to %s, want %s", step.name, got, step.between)
		}
		if err := next.Set(t.Context(), step.after); err != nil {
			t.Fatal(err)
		}
		if got := way(out, false); got != step.then {
			t.Errorf("%s: with the next one a packet goes to %s, want %s", step.name, got, step.then)
		}
		if err := next.Close(); err != nil {
			t.Fatal(err)
		}
		if got := way(out, false); got != WayHost {
			t.Errorf("%s: after all a packet goes to %s", step.name, got)
		}
	}
}

func trimmed(text string) string {
	if i := slices.Index([]byte(text), '!'); i == 0 {
		return text[1:]
	}
	return text
}

func TestFakeConforms(t *testing.T) {
	fake := &Fake{Local: map[netip.Prefix]string{subnet: "eth0"}}
	conforms(t, func() Host { return fake.Reopen() }, fake.Way)
}

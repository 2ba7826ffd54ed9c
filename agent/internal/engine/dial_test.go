package engine

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/agent/internal/forward"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
)

func TestDial(t *testing.T) {
	l, fake, _ := newTestLink(t)
	if _, err := l.Dial(t.Context(), "tcp", "100.64.0.2:80"); !errors.Is(err, forward.ErrElsewhere) {
		t.Errorf("before there is a map: %v", err)
	}
	if faults := l.apply(t.Context(), newMap(t, 1, 2)); len(faults) != 0 {
		t.Fatal(faults)
	}
	fake.Calls()
	for _, c := range []struct {
		network, address, call string
		err                    error
	}{
		{"tcp", "m2:80", "dial tcp 100.64.0.2:80", nil},
		{"udp", "m2.mesh.example:53", "dial udp 100.64.0.2:53", nil},
		{"tcp", "[fd00:64::2]:80", "dial tcp [fd00:64::2]:80", nil},
		{"tcp", "[::ffff:100.64.0.2]:80", "dial tcp 100.64.0.2:80", nil},
		{"tcp", "100.64.0.1:80", "dial tcp 100.64.0.1:80", nil}, // this machine itself
		{"tcp", "m3:80", "", forward.ErrNoName},
		{"tcp", "100.64.0.3:80", "", forward.ErrElsewhere}, // of the network, and nobody's
		{"tcp", "192.0.2.1:80", "", forward.ErrElsewhere},
	} {
		connection, err := l.Dial(t.Context(), c.network, c.address)
		if !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("%s %s: %v, want %v", c.network, c.address, err, c.err)
		}
		if connection != nil {
			_ = connection.Close()
		}
		if calls := strings.Join(fake.Calls(), ", "); calls != c.call {
			t.Errorf("%s %s: %q, want %q", c.network, c.address, calls, c.call)
		}
	}
	for _, wrong := range [][2]string{{"tcp", "m2"}, {"tcp", "m2:http"}, {"tcp", "m2:70000"}, {"ip", "m2:80"}} {
		if _, err := l.Dial(t.Context(), wrong[0], wrong[1]); err == nil {
			t.Errorf("%v is dialled", wrong)
		}
	}
}

func TestProxyBeyondTheLoopbackIsWarnedOf(t *testing.T) {
	l, _, _ := newTestLink(t)
	for text, warned := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true} {
		l.carry = forward.Config{Proxy: netip.MustParseAddrPort(text)}
		if err := l.forward.Set(t.Context(), l.carry); err != nil {
			t.Fatal(err)
		}
		var status local.Status
		mine, err := identity.New()
		if err != nil {
			t.Fatal(err)
		}
		l.describe(&status, mine)
		if len(status.Forwards) != 1 || status.Forwards[0].Kind != "proxy" {
			t.Fatalf("forwards %+v", status.Forwards)
		}
		if got := slices.ContainsFunc(status.Warnings, func(w string) bool { return strings.Contains(w, "password") }); got != warned {
			t.Errorf("at %s warned is %t: %v", text, got, status.Warnings)
		}
	}
}

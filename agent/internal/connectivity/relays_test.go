package connectivity

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

func TestParseRelays(t *testing.T) {
	list := []Relay{
		{URLs: []string{"turn:192.0.2.1:443?transport=tcp", "turn:192.0.2.1:3478", "stun:192.0.2.2:3478"}, Username: "u", Password: "p"},
		{URLs: []string{"turns:192.0.2.3:443", "http://192.0.2.4"}},
	}
	urls, err := parseRelays(list)
	if len(urls) != 2 || urls[0].streaming || urls[0].host != "192.0.2.1:3478" || !urls[1].streaming || urls[1].username != "u" {
		t.Errorf("URLs %+v: want UDP before TCP", urls)
	}
	if err == nil || !strings.Contains(err.Error(), "turns:192.0.2.3") || !strings.Contains(err.Error(), "http://") {
		t.Errorf("error %v does not name what cannot be used", err)
	}
	if hosts := stunServers(list); len(hosts) != 1 || hosts[0] != "192.0.2.2:3478" {
		t.Errorf("STUN servers %v", hosts)
	}
}

func TestStreamWhereNoUDPAnswers(t *testing.T) {
	r := startRelay(t)
	mute, err := net.ListenPacket("udp4", "127.0.0.1:0") // as a firewall that drops UDP
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	relay := []Relay{{
		URLs:     []string{"turn:" + mute.LocalAddr().String() + "?transport=udp", r.urls[1]},
		Username: "1:a.b", Password: "secret",
	}}
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{force: PathRelayed, relay: relay})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{force: PathRelayed, relay: relay})
	introduce(t, a, b)
	t.Logf("first ping: %v", a.ping(t, b))
	if s := a.paths.RelayStatus(); s.Transport != "tcp" {
		t.Errorf("relay %+v, want TCP", s)
	}
}

func TestWrongCredentialIsReported(t *testing.T) {
	r := startRelay(t)
	relay := r.udp()
	relay[0].Password = "wrong"
	m := newMachine(t, newWire(), "a", "10.77.0.1", machineOptions{relay: relay})
	eventually(t, "the refusal is reported", func() bool {
		return strings.Contains(m.paths.RelayStatus().Error, "refused")
	})
	if err := m.paths.SetRelays(r.udp()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the right one works at once", func() bool { return m.paths.RelayStatus().Relayed != "" })
}

func TestCredentialIsRenewedWhileTheAllocationLives(t *testing.T) {
	r := startRelay(t)
	m := newMachine(t, newWire(), "a", "10.77.0.1", machineOptions{relay: r.udp()})
	eventually(t, "a relayed address", func() bool { return m.paths.RelayStatus().Relayed != "" })
	before := m.paths.RelayStatus().Relayed
	renewed := r.udp()
	renewed[0].Username = "2:a.b"
	if err := m.paths.SetRelays(renewed); err != nil {
		t.Fatal(err)
	}
	var a *allocation
	m.inLoop(func(context.Context) { a = m.paths.allocation })
	eventually(t, "the new credential is in use", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.credential.username == "2:a.b"
	})
	if _, err := a.request(t.Context(), stun.MethodRefresh); err != nil {
		t.Error(err)
	}
	if after := m.paths.RelayStatus().Relayed; after != before {
		t.Errorf("relayed address changed from %s to %s", before, after)
	}
}

func TestReflexiveAddressWithoutAllocation(t *testing.T) {
	r := startRelay(t)
	stunOnly := []Relay{{URLs: []string{strings.Replace(strings.TrimSuffix(r.urls[0], "?transport=udp"), "turn:", "stun:", 1)}}}
	m := newMachine(t, newWire(), "a", "10.77.0.1", machineOptions{relay: stunOnly})
	eventually(t, "the mapped address is known", func() bool {
		var port uint16
		m.inLoop(func(context.Context) { port = m.paths.mapped.Port() })
		return port == m.device.Bind().Port()
	})
}

func TestAnAllocationOfAnEarlierRunIsReplaced(t *testing.T) {
	r := startRelay(t)
	m := newMachine(t, newWire(), "a", "10.77.0.1", machineOptions{})
	urls, err := parseRelays(r.udp())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	first, err := m.paths.relays.allocateAt(ctx, urls[0])
	if err != nil {
		t.Fatal(err)
	}
	second, err := m.paths.relays.allocateAt(ctx, urls[0]) // same socket, nobody released the first
	if err != nil {
		t.Fatal(err)
	}
	if first.relayed == second.relayed {
		t.Errorf("both allocations are at %s", first.relayed)
	}
	if err := second.release(ctx); err != nil {
		t.Error(err)
	}
}

func TestProbesNeedTheKeyOfThePair(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.ping(t, b)
	var pb *prober
	var path *tunnel.Path
	a.inLoop(func(context.Context) {
		pr := a.paths.byID["b"]
		pb, path = pr.probe, pr.endpoint.Primary()
	})
	if _, err := a.paths.probe(t.Context(), pb, path, 5*time.Second); err != nil {
		t.Errorf("a probe of the pair: %v", err)
	}
	forged := &prober{key: []byte("another key"), own: pb.own}
	if _, err := a.paths.probe(t.Context(), forged, path, 200*time.Millisecond); err == nil {
		t.Error("a forged probe was answered")
	}
}

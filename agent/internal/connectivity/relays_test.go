package connectivity

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/relay/server"
)

func TestParseRelays(t *testing.T) {
	list := []Relay{
		{URLs: []string{"turn:192.0.2.1:443?transport=tcp", "turn:192.0.2.1:3478", "stun:192.0.2.2:3478"}, Username: "u", Password: "p"},
		{URLs: []string{"wss://relay.test/relay", "turns:192.0.2.3:443?transport=udp", "turns:192.0.2.3:5349?transport=tcp", "http://192.0.2.4"}},
	}
	urls, err := parseRelays(list)
	var got []string
	for _, u := range urls {
		got = append(got, u.transport.String()+" "+u.host+" "+u.username)
	}
	want := []string{"udp 192.0.2.1:3478 u", "tcp 192.0.2.1:443 u", "tls 192.0.2.3:5349 ", "websocket relay.test:443 "}
	if !slices.Equal(got, want) {
		t.Errorf("URLs %q, want %q", got, want)
	}
	if err == nil || !strings.Contains(err.Error(), "turns:192.0.2.3:443") || !strings.Contains(err.Error(), "http://") {
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

// TestUDPReplacesAStreamSoon loses the first packets over UDP, so that a stream is first.
func TestUDPReplacesAStreamSoon(t *testing.T) {
	r := startRelay(t)
	passes := make(chan struct{})
	udp := strings.TrimSuffix(strings.TrimPrefix(r.urls[0], "turn:"), "?transport=udp")
	m := newMachine(t, newWire(), "a", "10.77.0.1", machineOptions{relay: []Relay{{
		URLs:     []string{"turn:" + forwarder(t, udp, passes) + "?transport=udp", r.urls[1]},
		Username: "1:a.b", Password: "secret",
	}}})
	eventually(t, "the relay is reached over TCP", func() bool { return m.paths.RelayStatus().Transport == "tcp" })
	close(passes)
	eventually(t, "the relay is reached over UDP", func() bool { return m.paths.RelayStatus().Transport == "udp" })
}

// forwarder carries datagrams between one client and a server, and drops them until passes is closed. It returns its
// address.
func forwarder(t *testing.T, to string, passes <-chan struct{}) string {
	t.Helper()
	front, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.Dial("udp4", to)
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	t.Cleanup(func() {
		_, _ = front.Close(), back.Close() // ends the two
		both.Wait()
	})
	client := make(chan net.Addr, 1)
	both.Go(func() {
		for buf := make([]byte, 1500); ; {
			n, from, err := front.ReadFrom(buf)
			if err != nil {
				return
			}
			select {
			case <-passes:
				select {
				case client <- from:
				default:
				}
				_, _ = back.Write(buf[:n])
			default:
			}
		}
	})
	both.Go(func() {
		var at net.Addr
		for buf := make([]byte, 1500); ; {
			n, err := back.Read(buf)
			if err != nil {
				return
			}
			if at == nil {
				at = <-client
			}
			_, _ = front.WriteTo(buf[:n], at)
		}
	})
	return front.LocalAddr().String()
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
	var a *allocation
	eventually(t, "an allocation", func() bool {
		m.inLoop(func(context.Context) { a = m.paths.allocation })
		return a != nil
	})
	before := m.paths.RelayStatus().Relayed
	renewed := r.udp()
	renewed[0].Username = "2:a.b"
	if err := m.paths.SetRelays(renewed); err != nil {
		t.Fatal(err)
	}
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
		m.inLoop(func(context.Context) {
			for _, mapped := range m.paths.outside.addresses() {
				port = mapped.Port()
			}
		})
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
	first, err := m.paths.relays.allocateAt(ctx, urls[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := m.paths.relays.allocateAt(ctx, urls[0], nil) // same socket, nobody released the first
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
	forged := *pb
	forged.key = []byte("another key")
	if _, err := a.paths.probe(t.Context(), &forged, path, 200*time.Millisecond); err == nil {
		t.Error("a forged probe was answered")
	}
}

// A relay of ours that a test may end and start again at the same address.
type ownRelay struct {
	address string
	end     func()
}

func startOwnRelay(t *testing.T, address string, drain time.Duration) *ownRelay {
	t.Helper()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Config{
		Secret: server.Secret(ownSecret), Listen: []string{address}, RelayAddress: netip.MustParseAddr(host),
		Drain: drain, Logger: testLogger("relay"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	r := &ownRelay{address: s.Addrs()[0].String(), end: func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}}
	t.Cleanup(r.end)
	return r
}

const ownSecret = "the secret of a test"

func (r *ownRelay) relays(peer string) []Relay {
	c := server.NewCredential(server.Secret(ownSecret), server.Holder{Account: "account", Peer: peer}, time.Now().Add(time.Hour))
	return []Relay{{URLs: []string{"turn:" + r.address + "?transport=udp"}, Username: c.Username, Password: c.Password}}
}

func TestAllocationIsMadeAgainWhenTheRelayHasRestarted(t *testing.T) {
	r := startOwnRelay(t, "127.0.0.1:0", 0)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{force: PathRelayed, relay: r.relays("a")})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{force: PathRelayed, relay: r.relays("b")})
	introduce(t, a, b)
	a.ping(t, b)
	r.end()
	again := startOwnRelay(t, r.address, 0)
	// The control plane hands the list out again when it is back.
	for id, m := range map[string]*machine{"a": a, "b": b} {
		if err := m.paths.SetRelays(again.relays(id)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("first answer after %v", a.reaches(t, b))
}

// A relay that is about to stop is left by both sides, one after the other: each
// time the next one lets nothing in that the other side has not asked for yet.
func TestRelayIsChangedWithoutLoss(t *testing.T) {
	one, two := startOwnRelay(t, "127.0.0.1:0", patience), startOwnRelay(t, "127.0.0.2:0", 0)
	w := newWire()
	w.meddle = func(_, _ string, box []byte) [][]byte {
		time.Sleep(50 * time.Millisecond) // signals travel more slowly than packets
		return [][]byte{box}
	}
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{force: PathRelayed, relay: one.relays("a")})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{force: PathRelayed, relay: one.relays("b")})
	introduce(t, a, b)
	a.ping(t, b)
	b.ping(t, a)
	machines := map[string]*machine{"a": a, "b": b}
	for id, m := range machines {
		if err := m.paths.SetRelays(append(one.relays(id), two.relays(id)...)); err != nil {
			t.Fatal(err)
		}
	}
	forth, back := startFlow(t, a, b, 7000), startFlow(t, b, a, 7010)
	eventually(t, "packets flow both ways", func() bool { return forth.received.Load() > 50 && back.received.Load() > 50 })
	one.end() // waits until both have left
	for id, m := range machines {
		eventually(t, id+" uses the other relay alone", func() bool {
			var left bool
			m.inLoop(func(context.Context) {
				for _, pr := range m.paths.pairs {
					left = pr.also == nil && pr.primary != nil && pr.primary.Relay().Server().String() == two.address && pr.primary.Addr().Addr().String() == "127.0.0.2"
				}
			})
			return left
		})
	}
	forth.stop()
	back.stop()
}

func TestRefusedChannelEndsTheAllocation(t *testing.T) {
	r := startOwnRelay(t, "127.0.0.1:0", 0)
	m := newMachine(t, newWire(), "a", "10.77.0.1", machineOptions{force: PathRelayed, relay: r.relays("a")})
	var before *allocation
	eventually(t, "an allocation", func() bool {
		m.inLoop(func(context.Context) { before = m.paths.allocation })
		return before != nil
	})
	r.end()
	startOwnRelay(t, r.address, 0)
	err := before.bind(t.Context(), netip.MustParseAddrPort("127.0.0.1:9"), firstChannel, func() {})
	if !before.gone(t.Context(), err) {
		t.Fatalf("the relay that has restarted says %v", err)
	}
	m.paths.relays.lose(before.relay, err)
	eventually(t, "another allocation", func() bool {
		var now *allocation
		m.inLoop(func(context.Context) { now = m.paths.allocation })
		return now != nil && now != before
	})
}

// A relay that refuses a channel says nothing about the direct path, and is told
// apart from it until it refuses no more.
func TestRefusalOfARelayIsNotOneOfTheDirectPath(t *testing.T) {
	r := startOwnRelay(t, "127.0.0.1:0", 0)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.relays("a")})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.relays("b")})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	nobody := netip.MustParseAddrPort("127.0.0.9:9")
	eventually(t, "the refusal stands in the status", func() bool {
		a.inLoop(func(ctx context.Context) {
			if pr := a.paths.byID["b"]; a.paths.allocation != nil && pr.relayed != nobody {
				pr.relayed = nobody // a hello on its way says otherwise
				a.paths.useRelay(ctx, pr)
			}
		})
		s, _ := a.paths.Status("b")
		return strings.Contains(s.RelayError, "403")
	})
	if s, _ := a.paths.Status("b"); s.LastError != "" {
		t.Errorf("last error %q: the direct path has not failed", s.LastError)
	}
	a.onPath(t, b, PathDirect) // which the peer uses as well, in a moment
	b.paths.NetworkChanged()   // its hello says where it is
	eventually(t, "nothing is known against the relay any more", func() bool {
		s, _ := a.paths.Status("b")
		return s.RelayError == ""
	})
}

// pion's server refuses a peer with 401 and a permission without a code, as if the
// credential were wrong. A peer that names such an address must not take the relay
// from all others.
func TestRefusedPeerDoesNotEndTheAllocation(t *testing.T) {
	r := startStrictRelay(t, func(_ net.Addr, peer net.IP) bool { return !peer.IsLoopback() })
	a := newMachine(t, newWire(), "a", "10.77.0.1", machineOptions{relay: r.udp()})
	var before *allocation
	eventually(t, "an allocation", func() bool {
		a.inLoop(func(context.Context) { before = a.paths.allocation })
		return before != nil
	})
	refused := before.bind(t.Context(), netip.MustParseAddrPort("127.0.0.9:9"), firstChannel, func() {})
	if !isGone(refused) {
		t.Fatalf("the peer is refused with %v: this test needs 401", refused)
	}
	if before.gone(t.Context(), refused) {
		t.Error("the allocation is given up")
	}
	if err := a.paths.relays.permit(t.Context(), before, func() {}); err != nil {
		t.Errorf("the allocation is given up for a refused permission: %v", err)
	}
	b := newMachine(t, newWire(), "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.inLoop(func(ctx context.Context) {
		pr := a.paths.pairOfID(ctx, "b")
		a.paths.wake(ctx, pr)
		pr.relayed = netip.MustParseAddrPort("127.0.0.9:9")
		a.paths.useRelay(ctx, pr)
	})
	eventually(t, "the refusal stands in the status", func() bool {
		s, _ := a.paths.Status("b")
		return strings.Contains(s.RelayError, "401")
	})
	a.inLoop(func(context.Context) {
		if a.paths.allocation != before {
			t.Error("the allocation was replaced")
		}
	})
}

func TestWinnerOfTheNetworkBegins(t *testing.T) {
	r := &relays{changed: make(chan struct{}, 1)}
	urls := []relayURL{{host: "a:1"}, {host: "a:1", transport: overTCP}, {host: "b:1"}}
	r.remember(relayURL{host: "a:1", transport: overTCP, credential: credential{"old", "old"}})
	if got := r.ordered(urls); !got[0].same(urls[1]) || !got[1].same(urls[0]) || !got[2].same(urls[2]) {
		t.Errorf("order %+v", got)
	}
	r.networkChanged()
	if got := r.ordered(urls); !slices.EqualFunc(got, urls, relayURL.same) {
		t.Errorf("order in another network %+v", got)
	}
}

package connectivity

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/table"
)

// inLoop runs work in the pathfinder's loop and waits for it.
func (m *machine) inLoop(work func(ctx context.Context)) {
	done := make(chan struct{})
	m.paths.post(func(ctx context.Context) {
		defer close(done)
		work(ctx)
	})
	<-done
}

// A stream of numbered datagrams over the overlay, one each millisecond.
type flow struct {
	sent, received atomic.Int64
	whole          atomic.Uint64 // every number below has arrived
	stop           func()
}

func startFlow(t *testing.T, from, to *machine, port uint16) *flow {
	t.Helper()
	sink, err := to.device.ListenPacket(netip.AddrPortFrom(to.addr, port))
	if err != nil {
		t.Fatal(err)
	}
	source, err := from.device.ListenPacket(netip.AddrPortFrom(from.addr, port+1))
	if err != nil {
		t.Fatal(err)
	}
	f := &flow{}
	var receiver, sender sync.WaitGroup
	quit := make(chan struct{})
	receiver.Go(func() {
		buf := make([]byte, 64)
		seen := make(map[uint64]bool)
		for {
			n, _, err := sink.ReadFrom(buf)
			if err != nil {
				return
			}
			if number := binary.BigEndian.Uint64(buf[:n]); !seen[number] {
				seen[number] = true
				for seen[f.whole.Load()] {
					f.whole.Add(1)
				}
				f.received.Add(1)
			}
		}
	})
	sender.Go(func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for number := uint64(0); ; number++ {
			select {
			case <-ticker.C:
			case <-quit:
				return
			}
			if _, err := source.WriteTo(binary.BigEndian.AppendUint64(nil, number), &net.UDPAddr{IP: to.addr.AsSlice(), Port: int(port)}); err != nil {
				t.Errorf("send: %v", err)
				return
			}
			f.sent.Add(1)
		}
	})
	var once sync.Once
	f.stop = func() {
		once.Do(func() {
			close(quit)
			sender.Wait()
			eventually(t, "all packets have arrived", func() bool { return f.received.Load() == f.sent.Load() })
			_ = source.Close()
			_ = sink.Close()
			receiver.Wait()
		})
	}
	return f
}

func TestUpgradeLosesNothing(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	var allowed atomic.Bool
	for _, m := range []*machine{a, b} {
		m.inLoop(func(context.Context) { m.paths.cfg.Address = func(netip.Addr) bool { return allowed.Load() } })
	}
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathRelayed)
	b.onPath(t, a, PathRelayed)

	forth, back := startFlow(t, a, b, 7000), startFlow(t, b, a, 7010)
	eventually(t, "packets flow", func() bool { return forth.received.Load() > 100 && back.received.Load() > 100 })
	allowed.Store(true)
	a.paths.NetworkChanged()
	a.onPath(t, b, PathDirect)
	b.onPath(t, a, PathDirect)
	// Direct means both ways: once what was under way has arrived, nobody needs
	// the relay any more.
	forthUntil, backUntil := uint64(forth.sent.Load()), uint64(back.sent.Load())
	eventually(t, "what was sent before has arrived", func() bool { return forth.whole.Load() >= forthUntil && back.whole.Load() >= backUntil })
	if err := r.server.Close(); err != nil {
		t.Fatal(err)
	}
	moved := forth.received.Load()
	eventually(t, "packets flow on", func() bool { return forth.received.Load() > moved+100 })
	forth.stop()
	back.stop()
	t.Logf("%d and %d packets, none lost", forth.sent.Load(), back.sent.Load())
}

func TestSilentDirectPathFallsBackToRelay(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	a.hasRelayTo(t, b)
	hole := blackhole(t)
	// A probe on its way may yet find the old path, so the cut is made again.
	cut := func() {
		for m, other := range map[*machine]string{a: "b", b: "a"} {
			m.inLoop(func(context.Context) {
				m.paths.cfg.Address = func(netip.Addr) bool { return false }
				pr := m.paths.byID[other]
				if at := hole.LocalAddr().(*net.UDPAddr).AddrPort(); pr.direct != nil && pr.direct.Addr() != at {
					pr.direct = m.device.Bind().DirectPath(at)
					m.paths.route(pr)
				}
			})
		}
	}
	cut()
	start := time.Now()
	eventually(t, "a ping gets through", func() bool {
		cut()
		ctx, cancel := context.WithTimeout(t.Context(), oneTry)
		defer cancel()
		_, err := a.device.Ping(ctx, b.addr)
		return err == nil
	})
	t.Logf("first answer after %v", time.Since(start))
	eventually(t, "the relay is the path, and the status says why", func() bool {
		cut()
		s, _ := a.paths.Status("b")
		return s.Path == PathRelayed && s.LastError != ""
	})
}

func TestBothBeginAtOnce(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	introduce(t, a, b)
	var pings sync.WaitGroup
	for range 3 {
		pings.Go(func() { a.ping(t, b) })
		pings.Go(func() { b.ping(t, a) })
	}
	pings.Wait()
	unaided(t, a, b)
}

func TestIdlePairWakes(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	introduce(t, a, b)
	a.ping(t, b)
	eventually(t, "both sleep", func() bool { // and nothing on its way wakes either again
		idle := true
		for m, other := range map[*machine]string{a: "b", b: "a"} {
			s, _ := m.paths.Status(other)
			idle = idle && s.Path == PathIdle
			m.inLoop(func(context.Context) {
				for _, pr := range m.paths.pairs {
					m.paths.sleep(pr)
				}
			})
		}
		return idle
	})
	t.Logf("first ping after the sleep: %v", a.ping(t, b))
	a.onPath(t, b, PathDirect)
}

// A pair without traffic goes to sleep by itself and then costs nothing: no ICE
// agent, no timer of ours or of the device, no goroutine, no packet. The first
// packet wakes both sides.
func TestIdlePairCostsNothing(t *testing.T) {
	w := newWire()
	opts := machineOptions{idle: 300 * time.Millisecond}
	a := newMachine(t, w, "a", "10.77.0.1", opts)
	b := newMachine(t, w, "b", "10.77.0.2", opts)
	introduce(t, a, b)
	both := map[*machine]string{a: "b", b: "a"}
	asleep := func(t *testing.T) {
		t.Helper()
		eventually(t, "nothing is left of the pair", func() bool {
			quiet := !strings.Contains(goroutines(), "pion/ice")
			for m, other := range both {
				m.inLoop(func(context.Context) {
					quiet = quiet && !m.paths.ticking
					if pr := m.paths.byID[other]; pr != nil {
						quiet = quiet && !pr.awake && pr.attempt == nil && pr.pending == nil && !pr.sending
					}
				})
				m.paths.checks.mu.Lock()
				quiet = quiet && len(m.paths.checks.attempts) == 0
				m.paths.checks.mu.Unlock()
				m.paths.transactions.mu.Lock()
				quiet = quiet && len(m.paths.transactions.pending) == 0
				m.paths.transactions.mu.Unlock()
			}
			return quiet
		})
	}
	asleep(t)
	a.ping(t, b)
	asleep(t)

	// Whoever stands where b stood hears nothing, although a would be free to speak.
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), b.device.Bind().Port())
	b.stop()
	tap, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close() //nolint:errcheck // read only
	if err := tap.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := tap.ReadFromUDPAddrPort(make([]byte, 1500)); err == nil {
		t.Errorf("an idle machine sends %d bytes", n)
	}
}

// goroutines returns the stacks of all goroutines.
func goroutines() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

func TestReasonOfAPeerThatWantsTheRelay(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp(), force: PathRelayed})
	introduce(t, a, b)
	a.ping(t, b)
	for m, want := range map[*machine]Reason{a: ReasonPolicy, b: ReasonRelayForced} {
		other := map[*machine]string{a: "b", b: "a"}[m]
		eventually(t, m.id+" says "+string(want), func() bool {
			s, _ := m.paths.Status(other)
			return s.Path == PathRelayed && s.Reason == want
		})
	}
}

func TestReasonOfAPeerThatIsAway(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	w.setCut(true)
	a.paths.Wake("b")
	eventually(t, "a says that b is away", func() bool {
		s, _ := a.paths.Status("b")
		return s.Reason == ReasonOffline && s.LastError != ""
	})
}

func TestRelayRemembersWhileSignalingIsAway(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{force: PathRelayed, relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{force: PathRelayed, relay: r.udp()})
	introduce(t, a, b)
	a.ping(t, b)
	w.setCut(true)
	a.inLoop(func(context.Context) { a.paths.sleep(a.paths.byID["b"]) })
	t.Logf("first ping without signaling: %v", a.ping(t, b))
}

func TestPeerRestarts(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	introduce(t, a, b)
	a.ping(t, b)
	b.stop()
	again := newMachineWithKey(t, w, "b", "10.77.0.2", b.key, machineOptions{relay: r.udp()})
	introduce(t, again, a)
	t.Logf("first ping of the new process: %v", again.ping(t, a))
	t.Logf("first ping towards it: %v", a.ping(t, again))
	again.onPath(t, a, PathDirect)
	a.onPath(t, again, PathDirect)
}

// restart replaces a machine by one that has the key and the port of the first.
func (m *machine) restart(t *testing.T, w *wire, opts machineOptions) *machine {
	t.Helper()
	opts.port = m.device.Bind().Port()
	m.stop()
	return newMachineWithKey(t, w, m.id, m.addr.String(), m.key, opts)
}

func TestPeerThatRestartsAndStaysSilentIsNoticed(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	eventually(t, "a knows the process of b", func() bool {
		var known bool
		a.inLoop(func(context.Context) { known = a.paths.byID["b"].seal.seenEpoch != 0 })
		return known
	})
	w.setCut(true)
	again := b.restart(t, w, machineOptions{})
	introduce(t, again, a)
	start := time.Now()
	eventually(t, "a ping gets through", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := a.device.Ping(ctx, again.addr)
		return err == nil
	})
	if took := time.Since(start); took > ownTimers {
		t.Errorf("first answer after %v: only WireGuard's own timers helped", took)
	} else {
		t.Logf("first answer after %v", took)
	}
}

func TestRestartedPeerThatAnswersIsJoinedOnce(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	again := b.restart(t, w, machineOptions{})
	introduce(t, again, a)
	w.mu.Lock()
	before := w.sent
	w.mu.Unlock()
	a.paths.NetworkChanged() // a says hello first, so the answer tells of the restart
	eventually(t, "both are direct again", func() bool {
		forth, _ := a.paths.Status("b")
		back, _ := again.paths.Status("a")
		return forth.Path == PathDirect && back.Path == PathDirect && !forth.LastAttempt.IsZero() && !back.LastAttempt.IsZero()
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if sent := w.sent - before; sent > 8 {
		t.Errorf("%d signals for one restart: the two sides begin anew in turn", sent)
	}
}

func (m *machine) setDevice(t *testing.T, other *machine) {
	t.Helper()
	settings := tunnel.Settings{
		Addresses: []netip.Prefix{netip.PrefixFrom(m.addr, 16)},
		Peers: table.Of(map[tunnel.PublicKey]tunnel.Peer{
			other.key.Public(): {PublicKey: other.key.Public(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(other.addr, 32)}},
		}),
	}
	if err := m.device.Set(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
}

func TestWakeBeforeMapIsNotLost(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	b.setDevice(t, a)
	b.paths.SetPeers(table.Of(map[string]Peer{"a": {ID: "a", PublicKey: a.key.Public()}}))
	a.setDevice(t, b)
	var ping sync.WaitGroup
	ping.Go(func() { a.ping(t, b) })
	eventually(t, "the device has called", func() bool { return a.device.Bind().Endpoint(b.key.Public()).Handshaking() })
	a.inLoop(func(context.Context) {})
	a.paths.SetPeers(table.Of(map[string]Peer{"b": {ID: "b", PublicKey: b.key.Public()}}))
	ping.Wait()
	unaided(t, a)
}

func TestSignalBeforeMapIsHeld(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduceTo := func(m, other *machine) {
		m.setDevice(t, other)
		m.paths.SetPeers(table.Of(map[string]Peer{other.id: {ID: other.id, PublicKey: other.key.Public()}}))
	}
	introduceTo(a, b)
	a.paths.Wake("b")
	eventually(t, "b holds the signal", func() bool {
		held := 0
		b.inLoop(func(context.Context) { held = len(b.paths.held) })
		return held > 0
	})
	introduceTo(b, a)
	a.onPath(t, b, PathDirect)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent > 4 {
		t.Errorf("%d signals: the held one was repeated instead of used", w.sent)
	}
}

func TestRelayLostAndFoundAgain(t *testing.T) {
	first, second := startRelay(t), startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{force: PathRelayed, relay: first.tcp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{force: PathRelayed, relay: first.tcp()})
	introduce(t, a, b)
	a.ping(t, b)
	for _, m := range []*machine{a, b} {
		if err := m.paths.SetRelays(second.udp()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both have moved", func() bool {
		return a.paths.RelayStatus().Transport == "udp" && b.paths.RelayStatus().Transport == "udp"
	})
	a.reaches(t, b)
}

// Of several relays the nearest is used. When it dies without a word, traffic
// goes on through the next.
func TestAnotherRelayTakesOver(t *testing.T) {
	first, second := startRelay(t), startRelay(t)
	relays := append(first.udp(), second.udp()...)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{force: PathRelayed, relay: relays})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{force: PathRelayed, relay: relays})
	introduce(t, a, b)
	a.ping(t, b)
	dead, alive := first, second
	if strings.Contains(second.urls[0], a.paths.RelayStatus().Server) {
		dead, alive = second, first
	}
	if err := dead.server.Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	a.reaches(t, b)
	t.Logf("traffic goes on after %s", time.Since(begin))
	if now := a.paths.RelayStatus().Server; !strings.Contains(alive.urls[0], now) {
		t.Errorf("the relay is %s, want one of %v", now, alive.urls)
	}
}

func TestPeerThatLeavesIsForgotten(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.ping(t, b)
	if err := a.device.Set(t.Context(), tunnel.Settings{Addresses: []netip.Prefix{netip.PrefixFrom(a.addr, 16)}}); err != nil {
		t.Fatal(err)
	}
	a.paths.SetPeers(table.Table[string, Peer]{})
	eventually(t, "the status is gone", func() bool { _, ok := a.paths.Status("b"); return !ok })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := b.device.Ping(ctx, a.addr); err == nil {
		t.Error("a machine answers a peer that has left its map")
	}
}

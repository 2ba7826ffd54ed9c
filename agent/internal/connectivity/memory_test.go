package connectivity

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// restarted replaces a machine by one that has its key, its port and what it knew.
func (m *machine) restarted(t *testing.T, w *wire, opts machineOptions) *machine {
	t.Helper()
	opts.known = m.paths.Known()
	return m.restart(t, w, opts)
}

// With neither control plane nor relay a machine that starts again finds a peer
// where it was, and the peer hears of the restart before it misses an answer.
func TestRestartedMachineFindsItsPeersAlone(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	b.onPath(t, a, PathDirect)
	w.setCut(true)

	again := b.restarted(t, w, machineOptions{})
	introduce(t, again, a)
	eventually(t, "a has heard of the restart without sending anything", func() bool {
		var heard bool
		a.inLoop(func(context.Context) {
			heard = a.paths.byID["b"].seal.seenEpoch == uint64(again.paths.started.UnixNano())
		})
		return heard
	})
	t.Logf("first answer after %v", a.reaches(t, again))
	again.onPath(t, a, PathDirect)
	again.reaches(t, a)
	unaided(t, a, again)
}

// What is idle is remembered too and costs nothing until there is a packet.
func TestRememberedPeerIsNotWokenForNothing(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	for _, m := range []*machine{a, b} {
		m.inLoop(func(context.Context) {
			for _, pr := range m.paths.pairs {
				m.paths.sleep(pr)
			}
		})
	}
	w.setCut(true)
	again := b.restarted(t, w, machineOptions{})
	introduce(t, again, a)
	again.inLoop(func(context.Context) {
		if again.paths.byID["a"].awake {
			t.Error("an idle pair was woken by a restart")
		}
	})
	t.Logf("first answer without signaling: %v", again.reaches(t, a))
	again.onPath(t, a, PathDirect)
}

// A relay that is still there carries the word of a restart as well: the peer
// learns the new relayed address from it.
func TestRestartedMachineIsHeardThroughTheRelay(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{force: PathRelayed, relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{force: PathRelayed, relay: r.udp()})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathRelayed)
	b.onPath(t, a, PathRelayed)
	w.setCut(true)
	again := b.restarted(t, w, machineOptions{force: PathRelayed, relay: r.udp()})
	introduce(t, again, a)
	t.Logf("first answer after %v", a.reaches(t, again))
	unaided(t, a, again)
}

// After a sleep the peer has dropped the session that still seems young here:
// nothing that is sent arrives, and WireGuard's own timers notice after 15 s.
func TestSleepRenewsTheSession(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	// What time does to a session is done by taking the peer out for a moment.
	if err := b.device.Set(t.Context(), tunnel.Settings{Addresses: []netip.Prefix{netip.PrefixFrom(b.addr, 16)}}); err != nil {
		t.Fatal(err)
	}
	introduce(t, b, a)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := a.device.Ping(ctx, b.addr); err == nil {
		t.Fatal("the session is still alive: this test shows nothing")
	}
	a.paths.Woke()
	if took := a.reaches(t, b); took > ownTimers {
		t.Errorf("first answer %v after the sleep: only WireGuard's own timers helped", took)
	} else {
		t.Logf("first answer %v after the sleep", took)
	}
}

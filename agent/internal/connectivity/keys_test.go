package connectivity

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// agrees waits until both machines use one secret, and a session with it.
func agrees(t *testing.T, a, b *machine) {
	t.Helper()
	for m, other := range map[*machine]*machine{a: b, b: a} {
		var last Status
		eventually(t, fmt.Sprintf("%s has a post-quantum session with %s", m.id, other.id), func() bool {
			last, _ = m.paths.Status(other.id)
			stats, err := m.device.Stats()
			return err == nil && last.Keys.State == postquantum.Agreed && stats[other.key.Public()].LastHandshake.After(last.Keys.Since)
		})
	}
	if one, other := a.mixedFor(b), b.mixedFor(a); !one.Equal(other) || one.IsZero() {
		t.Errorf("%s and %s do not have the same key", a.id, b.id)
	}
}

// mixedFor returns the pre-shared key that m has with a peer.
func (m *machine) mixedFor(peer *machine) (key tunnel.PresharedKey) {
	m.inLoop(func(context.Context) {
		if pr := m.paths.byID[peer.id]; pr != nil {
			key = pr.bonds[bondKey{m.paths.key.Public(), pr.uses}].mixed
		}
	})
	return key
}

// stays says that pings from one to the other are not answered.
func (m *machine) reachesNot(t *testing.T, to *machine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if _, err := m.device.Ping(ctx, to.addr); err == nil {
		t.Errorf("%s reaches %s", m.id, to.id)
	}
}

func (m *machine) keysAre(t *testing.T, to *machine, state postquantum.State, reason postquantum.Reason) {
	t.Helper()
	var last KeyStatus
	eventually(t, fmt.Sprintf("%s says %s %s of %s", m.id, state, reason, to.id), func() bool {
		s, _ := m.paths.Status(to.id)
		last = s.Keys
		return last.State == state && last.Reason == reason
	})
}

func TestStrictPairAgreesFirst(t *testing.T) {
	for _, force := range []Path{PathDirect, PathRelayed} {
		t.Run(string(force), func(t *testing.T) {
			r, w := startRelay(t), newWire()
			opts := machineOptions{relay: r.udp(), force: force, mode: postquantum.Strict}
			a := newMachine(t, w, "a", "10.77.0.1", opts)
			b := newMachine(t, w, "b", "10.77.0.2", opts)
			introduce(t, a, b)
			a.keysAre(t, b, postquantum.Pending, postquantum.ReasonNotBegun)
			t.Logf("first ping: %v", a.ping(t, b))
			t.Logf("ping back: %v", b.ping(t, a))
			agrees(t, a, b)
		})
	}
}

func TestStrictPairBeginsAtOnce(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Strict}
	a := newMachine(t, w, "a", "10.77.0.1", opts)
	b := newMachine(t, w, "b", "10.77.0.2", opts)
	introduce(t, a, b)
	done := make(chan time.Duration, 2)
	go func() { done <- a.ping(t, b) }()
	go func() { done <- b.ping(t, a) }()
	t.Logf("first pings: %v, %v", <-done, <-done)
	agrees(t, a, b)
}

func TestPermissivePairUpgrades(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Permissive}
	a := newMachine(t, w, "a", "10.77.0.1", opts)
	b := newMachine(t, w, "b", "10.77.0.2", opts)
	introduce(t, a, b)
	a.ping(t, b)
	forth, back := startFlow(t, a, b, 7000), startFlow(t, b, a, 7010)
	agrees(t, a, b)
	forth.stop()
	back.stop()
	t.Logf("%d and %d packets, none lost", forth.sent.Load(), back.sent.Load())
}

package connectivity

import (
	"context"
	"slices"
	"testing"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// rotate changes the key of m over to a new one, as the engine does, before all
// that it knows.
func (m *machine) rotate(t *testing.T, all ...*machine) {
	t.Helper()
	former := m.key
	m.next = tunnel.GenerateKey()
	introduce(t, all...)
	m.paths.SetKeys(former, m.next)
	eventually(t, "everybody who talks to "+m.id+" knows its next key", func() bool {
		active, err := m.paths.Active(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(active, func(a Active) bool { return !a.KnowsKey })
	})
	m.key, m.next = m.next, tunnel.PrivateKey{}
	if err := m.device.SetKey(m.key); err != nil {
		t.Fatal(err)
	}
	m.paths.SetKeys(m.key, former)
}

// usesKey reports whether m sends to a peer under the key that it has now.
func (m *machine) usesKey(peer *machine) (yes bool) {
	m.inLoop(func(context.Context) { yes = m.paths.byID[peer.id].uses == peer.key.Public() })
	return yes
}

func TestRotationLosesNothing(t *testing.T) {
	for _, force := range []Path{PathDirect, PathRelayed} {
		t.Run(string(force), func(t *testing.T) {
			r := startRelay(t)
			w := newWire()
			a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp(), force: force})
			b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp(), force: force})
			c := newMachine(t, w, "c", "10.77.0.3", machineOptions{relay: r.udp(), force: force}) // idle
			introduce(t, a, b, c)
			a.reaches(t, b)
			a.onPath(t, b, force)
			b.onPath(t, a, force)
			forth, back := startFlow(t, a, b, 7000), startFlow(t, b, a, 7010)
			eventually(t, "packets flow", func() bool { return forth.received.Load() > 100 && back.received.Load() > 100 })
			for i := range 6 {
				one, other := a, b
				if i%2 == 1 {
					one, other = b, a
				}
				one.rotate(t, a, b, c)
				eventually(t, "the other side uses the new key", func() bool { return other.usesKey(one) })
				introduce(t, a, b, c) // the map follows
				moved := forth.received.Load()
				eventually(t, "packets flow on", func() bool { return forth.received.Load() > moved+50 })
				one.paths.SetKeys(one.key, tunnel.PrivateKey{})
			}
			forth.stop()
			back.stop()
			t.Logf("%d and %d packets, none lost", forth.sent.Load(), back.sent.Load())
			if s, _ := a.paths.Status("b"); s.Path != force {
				t.Errorf("the path did not survive: %+v", s)
			}
			c.reaches(t, a)
		})
	}
}

// A machine that was away while another rotated its key meets it as before.
func TestRotationUnnoticed(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.reaches(t, b)
	a.key = tunnel.GenerateKey()
	if err := a.device.SetKey(a.key); err != nil {
		t.Fatal(err)
	}
	a.paths.SetKeys(a.key, tunnel.PrivateKey{})
	introduce(t, a, b)
	b.reaches(t, a)
	a.reaches(t, b)
}

func TestBothRotateAtOnce(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.reaches(t, b)
	formerA, formerB := a.key, b.key
	a.next, b.next = tunnel.GenerateKey(), tunnel.GenerateKey()
	introduce(t, a, b)
	for _, m := range []*machine{a, b} {
		m.paths.SetKeys(m.key, m.next)
	}
	for _, m := range []*machine{a, b} {
		eventually(t, "the next keys are known", func() bool {
			active, err := m.paths.Active(t.Context())
			return err == nil && len(active) == 1 && active[0].KnowsKey && active[0].Rotates
		})
	}
	for m, former := range map[*machine]tunnel.PrivateKey{a: formerA, b: formerB} {
		m.key, m.next = m.next, tunnel.PrivateKey{}
		if err := m.device.SetKey(m.key); err != nil {
			t.Fatal(err)
		}
		m.paths.SetKeys(m.key, former)
	}
	introduce(t, a, b)
	a.reaches(t, b)
	b.reaches(t, a)
}

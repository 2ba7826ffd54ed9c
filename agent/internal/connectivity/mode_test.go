package connectivity

import (
	"context"
	"testing"
	"time"

	"github.com/wattlenet/wattle/internal/table"
)

// wants gives a machine its only peer again, with another mode.
func (m *machine) wants(other *machine, mode Mode) {
	m.paths.SetPeers(table.Of(map[string]Peer{other.id: {ID: other.id, PublicKey: other.key.Public(), Mode: mode}}))
}

// One side wants the relay for a peer, in the middle of a flow: both use it and
// say why, and nothing is lost. Then it wants what works again.
func TestModeOfOnePeerChanges(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	b.onPath(t, a, PathDirect)
	f := startFlow(t, a, b, 7000)
	b.wants(a, ModeRelay)
	for m, want := range map[*machine]Reason{a: ReasonPolicy, b: ReasonRelayForced} {
		other := map[*machine]string{a: "b", b: "a"}[m]
		eventually(t, m.id+" says "+string(want), func() bool {
			s, _ := m.paths.Status(other)
			return s.Path == PathRelayed && s.Reason == want
		})
	}
	b.wants(a, ModeAuto)
	a.onPath(t, b, PathDirect)
	b.onPath(t, a, PathDirect)
	f.stop()
}

// The peer may answer a probe for a direct path when none is wanted any more.
func TestAnswerAfterTheModeHasChanged(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	a.inLoop(func(ctx context.Context) {
		pr := a.paths.byID["b"]
		path := pr.direct
		pr.peer.Mode = ModeRelay
		a.paths.changeMode(ctx, pr)
		a.paths.answeredAt(pr, path, time.Millisecond, true)
		if pr.direct != nil {
			t.Error("packets leave directly to a peer that is reached by relay only")
		}
	})
}

// Where one side wants no relay, none carries packets of the pair.
func TestModeWithoutRelay(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp(), force: PathRelayed})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	introduce(t, a, b)
	a.ping(t, b)
	b.wants(a, ModeDirect)
	for m, other := range map[*machine]string{a: "b", b: "a"} {
		eventually(t, m.id+" has no path", func() bool {
			s, _ := m.paths.Status(other)
			return s.Path == PathIdle && s.Relay == ""
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := a.device.Ping(ctx, b.addr); err == nil {
		t.Error("a packet came through although one side takes no direct path and the other no relay")
	}
	a.wants(b, ModeAuto) // the mode of the peer goes before that of the machine
	a.reaches(t, b)
	a.onPath(t, b, PathDirect)
	b.onPath(t, a, PathDirect)
}

// A path that is always wanted is there before the first packet, and stays.
func TestModeAlways(t *testing.T) {
	w := newWire()
	opts := machineOptions{idle: 200 * time.Millisecond}
	a := newMachine(t, w, "a", "10.77.0.1", opts)
	b := newMachine(t, w, "b", "10.77.0.2", opts)
	introduce(t, a, b)
	a.wants(b, ModeAlways)
	a.onPath(t, b, PathDirect)
	eventually(t, "the other side sleeps", func() bool { s, _ := b.paths.Status("a"); return s.Path == PathIdle && !s.Since.IsZero() })
	if s, _ := a.paths.Status("b"); s.Path != PathDirect {
		t.Errorf("%+v, want a direct path", s)
	}
	a.wants(b, ModeDefault)
	eventually(t, "the path is given up without traffic", func() bool { s, _ := a.paths.Status("b"); return s.Path == PathIdle })
}

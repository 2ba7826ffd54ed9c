package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
)

// keyWorld is what outlives the process of an agent: its disk, and what the
// control plane knows. The process dies at the call whose number is fatal,
// before or after what the call does.
type keyWorld struct {
	t      *testing.T
	clock  time.Time
	disk   identity.Identity
	server api.SelfView
	device tunnel.PublicKey
	fake   *Fake

	calls, fatal int
	after        bool
	dead         bool
}

var errDied = errors.New("the process died")

// call does something unless the process dies of it.
func (w *keyWorld) call(do func() error) error {
	if w.dead {
		return errDied
	}
	w.calls++
	w.dead = w.calls == w.fatal
	if w.dead && !w.after {
		return errDied
	}
	err := do()
	w.check()
	if w.dead {
		return errDied
	}
	return err
}

// check holds at every moment: nobody is sent to a key that the machine does
// not have, and the device uses no key that nobody was told of.
func (w *keyWorld) check() {
	w.t.Helper()
	if key := w.device.String(); key != w.server.Key && key != w.server.NextKey {
		w.t.Fatalf("after call %d the device uses a key that the control plane does not know", w.calls)
	}
	if w.device != w.disk.WireGuardKey.Public() && (w.disk.PreviousKey.IsZero() || w.device != w.disk.PreviousKey.Public()) {
		w.t.Fatalf("after call %d the device uses a key that is not on disk", w.calls)
	}
}

func newKeyWorld(t *testing.T) *keyWorld {
	mine, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	w := &keyWorld{t: t, clock: time.Now(), disk: *mine, fake: &Fake{}}
	w.server.Id, w.server.Key = "p1", mine.WireGuardKey.Public().String()
	return w
}

// start is a process of the agent.
func (w *keyWorld) start() *rotation {
	w.dead = false
	w.device = w.disk.WireGuardKey.Public()
	w.check()
	return &rotation{
		log: slog.New(slog.DiscardHandler), now: func() time.Time { return w.clock },
		identity: func() *identity.Identity { mine := w.disk; return &mine },
		amend: func(change func(*identity.Identity)) error {
			return w.call(func() error { change(&w.disk); return nil })
		},
		tell: func(_ context.Context, key, next string) error {
			return w.call(func() error {
				if key != w.server.Key && key != w.server.NextKey {
					return errors.New("conflict: it was not the next key")
				}
				w.server.Key, w.server.NextKey = key, next
				return nil
			})
		},
		device: keyDevice{w: w}, paths: fakePaths{w.fake}, wake: make(chan struct{}, 1), inUse: w.device,
	}
}

type keyDevice struct {
	fakeDevice // for what a rotation does not use
	w          *keyWorld
}

func (d keyDevice) SetKey(key tunnel.PrivateKey) error {
	return d.w.call(func() error { d.w.device = key.Public(); return nil })
}

func (d keyDevice) Stats() (map[tunnel.PublicKey]tunnel.Stats, error) { return nil, nil }

// TestRotationSurvivesDeath kills the process at every call of a rotation, and
// again at every call of the one that goes on.
func TestRotationSurvivesDeath(t *testing.T) {
	longest := 0
	for first := 0; first <= 8; first++ {
		for second := 0; second <= 8; second++ {
			for _, after := range []bool{false, true} {
				w := newKeyWorld(t)
				former := w.disk.WireGuardKey.Public()
				r := w.start()
				r.ask(&w.disk)
				fatal := []int{first, second}
				w.fatal, w.after = fatal[0], after
				done := false
				for range 200 {
					r.run(t.Context(), w.server)
					if w.dead {
						w.calls, w.fatal, fatal = 0, fatal[1], []int{0, 0}
						r = w.start()
						if w.disk.WireGuardKey.Public() == former {
							r.ask(&w.disk) // the person asks again
						}
					}
					w.clock = w.clock.Add(time.Second)
					if done = w.disk.WireGuardKey.Public() != former && w.server.Key == w.device.String() && w.server.NextKey == "" && w.disk.PreviousKey.IsZero(); done {
						break
					}
					if w.disk.WireGuardKey.Public() != former && w.server.Key == w.device.String() {
						w.clock = w.clock.Add(keyOverlap)
					}
				}
				longest = max(longest, w.calls)
				if !done || w.device != w.disk.WireGuardKey.Public() || !w.disk.NextKey.IsZero() {
					t.Fatalf("died at calls %d and %d (after: %t): the rotation did not end", first, second, after)
				}
			}
		}
	}
	if longest < 6 {
		t.Errorf("a rotation has %d calls: not all of it was tried", longest)
	}
}

func TestRotationWaitsForThoseWhoTalk(t *testing.T) {
	w := newKeyWorld(t)
	r := w.start()
	key := w.device
	r.ask(&w.disk)
	busy := connectivity.Active{ID: "p2", Key: tunnel.GenerateKey().Public()}
	w.fake.active = []connectivity.Active{busy}
	for range 50 {
		r.run(t.Context(), w.server)
		w.clock = w.clock.Add(time.Second)
	}
	if w.device != key || w.server.NextKey == "" || w.fake.keys[1].String() != w.server.NextKey {
		t.Fatalf("the key was changed before the other side knew the new one: %+v", w.server)
	}
	w.fake.active[0].KnowsKey = true
	for range 3 {
		r.run(t.Context(), w.server)
	}
	if w.device == key || w.device.String() != w.server.NextKey {
		t.Fatal("the other side knows the new key and it is not used")
	}
	// One that never answers holds the rotation up for a bounded time.
	w = newKeyWorld(t)
	r, key = w.start(), w.device
	r.ask(&w.disk)
	w.fake.active = []connectivity.Active{busy}
	for range 20 {
		r.run(t.Context(), w.server)
		w.clock = w.clock.Add(time.Minute)
	}
	if w.device == key {
		t.Fatal("one peer holds the rotation up for ever")
	}
}

func TestRotationOnSchedule(t *testing.T) {
	w := newKeyWorld(t)
	r := w.start()
	key := w.device
	w.server.KeyRotationDays = 30
	for range 28 * 24 {
		r.run(t.Context(), w.server)
		w.clock = w.clock.Add(time.Hour)
	}
	if w.device != key {
		t.Fatal("rotated before its time")
	}
	for range 3 * 24 {
		r.run(t.Context(), w.server)
		w.clock = w.clock.Add(time.Hour)
	}
	if w.device == key || w.server.Key != w.device.String() || !w.disk.PreviousKey.IsZero() {
		t.Fatalf("not rotated in time: %+v", w.server)
	}
	w.server.KeyRotationDays = 0
	key = w.device
	w.clock = w.clock.Add(10 * 365 * 24 * time.Hour)
	if wait := r.run(t.Context(), w.server); wait != keyIdle || w.device != key {
		t.Fatalf("rotates without being asked, or looks again after %s", wait)
	}
}

// A control plane that was restored from a backup knows an older key.
func TestRotationAfterRestore(t *testing.T) {
	w := newKeyWorld(t)
	r := w.start()
	older := tunnel.GenerateKey().Public().String()
	w.server.Key = older
	w.device, r.inUse = w.disk.WireGuardKey.Public(), w.disk.WireGuardKey.Public()
	r.tell = func(_ context.Context, key, next string) error {
		if key != w.server.Key && key != w.server.NextKey {
			return fmt.Errorf("conflict: %s was not the next key", key)
		}
		w.server.Key, w.server.NextKey = key, next
		return nil
	}
	for range 3 {
		r.run(t.Context(), w.server)
	}
	if w.server.Key != w.device.String() || w.server.NextKey != "" {
		t.Fatalf("the control plane still has %+v", w.server)
	}
}

func TestRotateKeyAtARealControlPlane(t *testing.T) {
	plane := controlplanetest.New(t)
	a := join(t, plane)
	b := join(t, plane)
	before := a.Engine.Status(t.Context()).PublicKey
	b.until("the other machine", peersAre(1))
	if err := a.RotateKey(t.Context(), local.RotateKeyRequest{}); err != nil {
		t.Fatal(err)
	}
	after := a.Engine.Status(t.Context())
	if after.PublicKey == before || after.NextPublicKey != "" || len(after.Warnings) != 0 {
		t.Errorf("status %+v", after)
	}
	b.until("the new key of the other machine", func(s local.Status) bool {
		return len(s.Peers) == 1 && s.Peers[0].PublicKey == after.PublicKey
	})
	// The key is on disk: the next process has it.
	a.stop()
	again := boot(t, a.dir)
	again.until("the machine", func(s local.Status) bool { return s.State == local.StateReady && s.PublicKey == after.PublicKey })
}

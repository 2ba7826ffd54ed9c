package engine

import (
	"context"
	"hash/fnv"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/program"
)

// Choices of ours.
const (
	// keyOverlap is how long a former key still opens messages of peers.
	keyOverlap = 5 * time.Minute

	// keyPatience is how long a next key waits for a peer that packets flow to
	// and that does not answer under it.
	keyPatience = 10 * time.Minute

	// keySettle is how long sessions under a new key may take to begin before
	// everybody is told to use it, and keySettleLimit how long they are waited for.
	keySettle      = time.Second
	keySettleLimit = 3 * time.Second

	keyPoll  = 100 * time.Millisecond // while peers are asked
	keyRetry = 5 * time.Second        // after a failure, and for a map that does not come
	keyIdle  = time.Hour              // nothing to do

	defaultRotateTimeout = 60 * time.Second
)

// A rotation replaces the WireGuard key of this machine without a lost packet.
// What it does next follows from what is on disk and what the map says, so a
// machine that loses power goes on where it was:
//
//	on disk              map, of this machine   then
//	key k1               key k1                 when it is time: make k2, keep it as next
//	key k1, next k2      key k1                 tell k2 to the control plane
//	key k1, next k2      key k1, next k2        peers answer under k2? then change over, on disk first
//	key k2, previous k1  key k1, next k2        tell that k2 is in use
//	key k2, previous k1  key k2                 after five minutes: forget k1
//
// At no moment the device uses a key that the control plane was not told before.
type rotation struct {
	log      *slog.Logger
	now      func() time.Time
	identity func() *identity.Identity
	amend    func(func(*identity.Identity)) error
	tell     func(ctx context.Context, key, next string) error
	device   Device
	paths    Paths
	wake     chan struct{} // one token: look again

	// Owned by the goroutine of rotateKeys.
	inUse    tunnel.PublicKey // of the device
	shown    tunnel.PublicKey // the other key that the paths know; zero: none
	waiting  time.Time        // since then peers are asked under the next key
	switched time.Time        // zero: not in this run

	mu      sync.Mutex // guards all below
	asked   bool       // for a new key, by a command
	problem string     // why the rotation does not go on
}

func (e *Engine) newRotation(mine *identity.Identity, client *control.Client, machine *Machine) *rotation {
	r := &rotation{
		log: e.log, now: e.time, amend: e.amend, tell: client.SetKey, device: machine.Device, paths: machine.Paths,
		wake: make(chan struct{}, 1), inUse: mine.WireGuardKey.Public(),
	}
	r.identity = func() *identity.Identity { mine, _, _ := e.now(); return mine }
	return r
}

// look makes the rotation look again.
func (r *rotation) look() {
	if r == nil {
		return // a link of a test
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// rotateKeys brings the rotation forward until ctx ends.
func (l *link) rotateKeys(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.rotation.wake:
		case <-timer.C:
		}
		wait := keyIdle
		if _, wanted, _, _ := l.snapshot(); wanted != nil {
			wait = l.rotation.run(ctx, wanted.self.view)
		}
		timer.Reset(wait)
		l.changed()
	}
}

// run takes one step, and returns when to take the next.
func (r *rotation) run(ctx context.Context, self api.SelfView) time.Duration {
	wait, err := r.step(ctx, self)
	if ctx.Err() != nil {
		return keyRetry
	}
	problem := ""
	if err != nil {
		r.log.Warn("key rotation does not go on", "error", err)
		problem, wait = "the WireGuard key is not replaced yet: "+err.Error(), keyRetry
	}
	r.mu.Lock()
	r.problem = problem
	r.mu.Unlock()
	return wait
}

func (r *rotation) step(ctx context.Context, self api.SelfView) (time.Duration, error) {
	mine := r.identity()
	key := mine.WireGuardKey.Public()
	switch {
	case r.inUse != key:
		if err := r.device.SetKey(mine.WireGuardKey); err != nil {
			return 0, err
		}
		r.inUse, r.switched = key, r.now()
		r.show(mine, mine.PreviousKey)
		return 0, nil
	case self.Key != key.String():
		return r.tellInUse(ctx, self, key)
	case !mine.NextKey.IsZero() && self.NextKey != mine.NextKey.Public().String():
		return keyRetry, r.tell(ctx, key.String(), mine.NextKey.Public().String())
	case !mine.NextKey.IsZero():
		return r.changeOver(ctx, mine)
	case r.isAsked():
		return r.begin(mine, self)
	case !mine.PreviousKey.IsZero() && r.now().Sub(mine.KeySince) < keyOverlap:
		r.show(mine, mine.PreviousKey)
		return mine.KeySince.Add(keyOverlap).Sub(r.now()), nil
	case !mine.PreviousKey.IsZero():
		r.show(mine, tunnel.PrivateKey{})
		return 0, r.amend(func(i *identity.Identity) { i.PreviousKey = tunnel.PrivateKey{} })
	}
	return r.begin(mine, self)
}

// begin makes the next key when it is time.
func (r *rotation) begin(mine *identity.Identity, self api.SelfView) (time.Duration, error) {
	asked := r.isAsked()
	if mine.KeySince.IsZero() { // enrolled by an agent that did not note it
		return 0, r.amend(func(i *identity.Identity) { i.KeySince = r.now() })
	}
	wait := keyIdle
	if self.KeyRotationDays > 0 {
		wait = mine.KeySince.Add(keyLife(self)).Sub(r.now())
	}
	if !asked && wait > 0 {
		return min(wait, keyIdle), nil
	}
	if err := r.amend(func(i *identity.Identity) { i.NextKey, i.PreviousKey = tunnel.GenerateKey(), tunnel.PrivateKey{} }); err != nil {
		return 0, err
	}
	r.mu.Lock()
	r.asked = false
	r.mu.Unlock()
	return 0, nil
}

// keyLife is a little less than the account says, not alike on all machines:
// they would rotate in step else.
func keyLife(self api.SelfView) time.Duration {
	life := time.Duration(self.KeyRotationDays) * 24 * time.Hour
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(self.Id)) // never fails
	return life - life/20*time.Duration(sum.Sum32()%1000)/1000
}

// changeOver uses the next key once those who packets flow to know it. Of two
// that rotate at the same moment the one with the smaller key goes first.
func (r *rotation) changeOver(ctx context.Context, mine *identity.Identity) (time.Duration, error) {
	if r.show(mine, mine.NextKey) || r.waiting.IsZero() {
		r.waiting = r.now()
	}
	active, err := r.paths.Active(ctx)
	if err != nil {
		return 0, err
	}
	key := mine.WireGuardKey.Public()
	waits := slices.ContainsFunc(active, func(a connectivity.Active) bool {
		return !a.KnowsKey || a.Rotates && a.Key.Less(key)
	})
	if waits && r.now().Sub(r.waiting) < keyPatience {
		return keyPoll, nil
	}
	r.waiting = time.Time{}
	return 0, r.amend(func(i *identity.Identity) {
		i.WireGuardKey, i.PreviousKey, i.NextKey = mine.NextKey, mine.WireGuardKey, tunnel.PrivateKey{}
		i.KeySince = r.now()
	})
}

// tellInUse makes the key the one of the map, once the sessions under it have
// begun: who hears of it by the map drops what is still under way under the
// former one.
func (r *rotation) tellInUse(ctx context.Context, self api.SelfView, key tunnel.PublicKey) (time.Duration, error) {
	if since := r.now().Sub(r.switched); !r.switched.IsZero() && since < keySettleLimit {
		begun, err := r.sessionsBegun(ctx)
		if err != nil {
			return 0, err
		}
		if since < keySettle || !begun {
			return keyPoll, nil
		}
	}
	if self.NextKey != key.String() { // a control plane that was restored knows less
		return keyRetry, r.tell(ctx, self.Key, key.String())
	}
	return keyRetry, r.tell(ctx, key.String(), "")
}

func (r *rotation) sessionsBegun(ctx context.Context) (bool, error) {
	active, err := r.paths.Active(ctx)
	if err != nil {
		return false, err
	}
	stats, err := r.device.Stats()
	return !slices.ContainsFunc(active, func(a connectivity.Active) bool {
		return stats[a.Key].LastHandshake.Before(r.switched)
	}), err
}

// show tells the paths the other key, and reports whether it is news.
func (r *rotation) show(mine *identity.Identity, other tunnel.PrivateKey) bool {
	var public tunnel.PublicKey
	if !other.IsZero() {
		public = other.Public()
	}
	if public == r.shown {
		return false
	}
	r.paths.SetKeys(mine.WireGuardKey, other)
	r.shown = public
	return true
}

// describe adds the rotation to a status, and returns what is wrong with it.
func (r *rotation) describe(s *local.Status, mine *identity.Identity) string {
	if !mine.NextKey.IsZero() {
		s.NextPublicKey = mine.NextKey.Public().String()
	}
	if !mine.KeySince.IsZero() {
		s.PublicKeySince = &mine.KeySince
	}
	if r == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// RotateKey replaces the WireGuard key of this machine and returns once the
// control plane tells everybody of the new one.
func (e *Engine) RotateKey(ctx context.Context, request local.RotateKeyRequest) error {
	mine, running, _ := e.now()
	if running == nil {
		return local.Errorf(program.ExitNotEnrolled, "this machine is not connected; run `wattle up`, then rotate its key")
	}
	timeout := time.Duration(request.TimeoutSeconds * float64(time.Second))
	if timeout <= 0 {
		timeout = defaultRotateTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	former := mine.WireGuardKey.Public()
	running.rotation.ask(mine)
	for {
		change := e.Watch()
		mine, still, _ := e.now()
		if still != running {
			return local.Errorf(program.ExitFailed, "the machine was disconnected meanwhile; a rotation that has begun goes on with the next `wattle up`")
		}
		_, wanted, _, _ := running.snapshot()
		key := mine.WireGuardKey.Public()
		if key != former && wanted != nil && wanted.self.view.Key == key.String() {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return local.Errorf(program.ExitTimedOut, "%s; the daemon goes on trying", running.rotation.waitsFor())
		}
	}
}

// ask wants a new key soon; one that is under way will do.
func (r *rotation) ask(mine *identity.Identity) {
	r.mu.Lock()
	r.asked = mine.NextKey.IsZero()
	r.mu.Unlock()
	r.look()
}

func (r *rotation) isAsked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// waitsFor says in words why the rotation has not ended.
func (r *rotation) waitsFor() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.problem != "" {
		return r.problem
	}
	return "a machine that packets flow to has not heard of the new key yet"
}

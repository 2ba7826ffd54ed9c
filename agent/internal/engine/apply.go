package engine

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// retryApply is how long after a failure the same state is applied again.
const retryApply = 2 * time.Second

// applyNewest owns the state of the host.
func (l *link) applyNewest(ctx context.Context) {
	var current *mapstate.Map
	retry, look, rest, turn := time.NewTimer(retryApply), time.NewTimer(lookIdle), time.NewTimer(spareAfter), time.NewTimer(turnLook)
	retry.Stop()
	look.Stop()
	rest.Stop()
	var rested time.Time
	var kept spare
	for {
		var waits chan struct{}
		select {
		case <-ctx.Done():
			return
		case current = <-l.newest:
		case <-retry.C:
		case <-turn.C:
			if wait := l.untilTurn(); wait > 0 {
				turn.Reset(wait)
				continue
			}
		case <-l.again:
		case waits = <-l.urgent:
		case <-rest.C:
			l.spared(&kept)
			rested = time.Now()
			rest.Reset(spareInterval)
			continue
		case <-look.C:
			if moved, next := l.lookAtRouters(); !moved {
				look.Reset(next)
				continue
			}
		}
		if current == nil {
			continue // nobody waits before there is a map
		}
		begun := time.Now()
		faults := l.apply(ctx, current)
		l.timed(time.Since(begun))
		if waits != nil {
			close(waits)
		}
		retry.Stop()
		if turn.Stop(); len(faults) == 0 {
			turn.Reset(l.untilTurn())
		}
		rest.Reset(max(spareAfter, spareInterval-time.Since(rested)))
		if len(faults) > 0 {
			retry.Reset(retryApply)
		}
		look.Stop()
		if _, wanted, _, _ := l.snapshot(); wanted != nil && len(wanted.watched) > 0 {
			look.Reset(lookAwake)
		}
		l.rotation.look()
		l.changed()
	}
}

// lookAtRouters reports whether the traffic of a destination has to move.
func (l *link) lookAtRouters() (moved bool, next time.Duration) {
	_, wanted, _, _ := l.snapshot()
	if wanted == nil {
		return false, lookIdle
	}
	moved, next = l.routers.look(wanted)
	waiting := l.routers.waiting(wanted)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = waiting
	return moved, next
}

// apply makes the host what the map says. It goes as far as it can: a resolver
// without its port is no reason to keep a peer out. A firewall that fails is:
// nothing else changes then.
func (l *link) apply(ctx context.Context, m *mapstate.Map) []string {
	l.planned = plan(cmp.Or(l.planned, &desired{}), m, l.machine.Interface)
	wanted := l.planned
	for _, d := range wanted.destinations {
		d.named = l.meanings.of(d.key, l.routers.now())
	}
	wanted.firewall.At = l.wall()
	wanted.turn = wanted.firewall.Turn()
	values := l.under(m)
	wanted.chooseExit(exitWishOf(values))
	wanted.choosePaths(peerModesOf(values))
	wanted.require(values)
	wanted.lead(l.routers.pick, l.routers.down)
	l.routers.forget(wanted)
	var faults []error
	l.overlay.set(wanted.networks())
	if err := l.machine.Firewall.Set(ctx, wanted.firewall); err != nil {
		l.log.Error("rules not applied", "error", err)
		return l.note(nil, nil, []error{err})
	}
	if err := l.machine.Device.Set(ctx, wanted.tunnel); errors.Is(err, tunnel.ErrNoIPv6) {
		wanted.withoutIPv6(err)
	} else if err != nil {
		faults = append(faults, err)
	}
	wanted.routing.Inbound = wanted.firewall.KeepPaths && !l.machine.KeepsPaths
	if err := l.machine.Routes.Set(ctx, wanted.routing); err != nil {
		faults = append(faults, err)
	}
	l.machine.Paths.SetPostQuantum(wanted.keys)
	l.machine.Paths.Keep(wanted.kept)
	l.machine.Paths.SetPeers(wanted.paths)
	if err := l.applyNames(ctx, wanted); err != nil {
		faults = append(faults, err)
	}
	carry := l.carry
	for _, own := range wanted.tunnel.Addresses {
		carry.Addresses = append(carry.Addresses, own.Addr())
	}
	if err := l.forward.Set(ctx, carry); err != nil {
		faults = append(faults, err)
	}
	if len(faults) > 0 && ctx.Err() == nil {
		l.log.Warn("network map applied in part", "error", errors.Join(faults...))
	}
	replace(l.saves, m)
	_, former, _, _ := l.snapshot()
	l.askMoved(ctx, former, wanted)
	return l.note(wanted, m, faults)
}

// applyNames sets what the resolver knows, and then who asks it: a machine must
// not be told to ask where nobody answers.
func (l *link) applyNames(ctx context.Context, wanted *desired) error {
	if err := l.machine.Resolver.Set(ctx, wanted.dns); err != nil {
		return errors.Join(err, l.machine.Names.Set(ctx, system.Config{}))
	}
	names := wanted.names
	if names.Interface != "" {
		names.Servers, _ = l.machine.Resolver.Serving()
	}
	return l.machine.Names.Set(ctx, names)
}

// timed publishes how long the last map took to apply.
func (l *link) timed(took time.Duration) {
	l.mu.Lock()
	l.took = took
	l.mu.Unlock()
}

// note publishes the outcome. A nil wanted keeps the one in force.
func (l *link) note(wanted *desired, m *mapstate.Map, faults []error) []string {
	texts := make([]string, 0, len(faults))
	for _, fault := range faults {
		texts = append(texts, fault.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if wanted != nil {
		l.desired, l.applied = wanted, m
	}
	l.faults = texts
	return texts
}

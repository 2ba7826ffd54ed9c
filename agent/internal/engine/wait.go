package engine

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

// pathInterval is how often a path is looked at: its changes are not announced.
const pathInterval = 100 * time.Millisecond

// A condition is what `wattle wait` waits for.
type condition struct {
	holds func(ctx context.Context, status local.Status) bool
	poll  bool // what it depends on is not announced
}

// condition is what a request waits for.
func (e *Engine) condition(request local.WaitRequest) (condition, error) {
	kind, name, err := request.Condition()
	switch kind {
	case "connected":
		return condition{holds: func(_ context.Context, s local.Status) bool { return s.State == local.StateReady }}, nil
	case "peer":
		return condition{poll: true, holds: func(_ context.Context, s local.Status) bool {
			return slices.ContainsFunc(s.Peers, func(p local.Peer) bool { return p.Is(name) && p.Path != "idle" })
		}}, nil
	case "dns":
		return condition{holds: func(ctx context.Context, _ local.Status) bool { return e.resolves(ctx, name) }}, nil
	}
	return condition{holds: func(_ context.Context, s local.Status) bool { return s.Ready() }}, err
}

// resolves reports whether the network has an address for a name.
func (e *Engine) resolves(ctx context.Context, name string) bool {
	for _, kind := range []string{"A", "AAAA"} {
		if answer, err := e.Query(ctx, local.QueryRequest{Name: name, Type: kind}); err == nil && len(answer.Records) > 0 {
			return true
		}
	}
	return false
}

// Wait blocks until a condition holds: ready, connected, peer:NAME, which holds
// once the path to the peer is not idle, or dns:NAME.
func (e *Engine) Wait(ctx context.Context, request local.WaitRequest) error {
	wanted, err := e.condition(request)
	if err != nil {
		return err
	}
	for {
		change := e.Watch()
		status := e.Status(ctx)
		if wanted.holds(ctx, status) {
			return nil
		}
		if err := waitChange(ctx, change, wanted.poll); err != nil {
			return local.Errorf(program.ExitTimedOut, "the time is over and %s does not hold; state: %s", cmp.Or(request.For, "ready"), status.State)
		}
	}
}

func waitChange(ctx context.Context, change <-chan struct{}, poll bool) error {
	var tick <-chan time.Time
	if poll {
		timer := time.NewTimer(pathInterval)
		defer timer.Stop()
		tick = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-change:
	case <-tick:
	}
	return nil
}

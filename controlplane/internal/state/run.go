package state

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/ipam"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
)

// Times of the jobs.
const (
	presenceInterval = 60 * time.Second
	trimInterval     = 10 * time.Minute

	// ephemeralAbsence is how long an ephemeral peer may stay away.
	ephemeralAbsence = 10 * time.Minute
)

// Run does the timed work until ctx ends: it lets rules begin and end at their
// times, writes presence, removes ephemeral peers that stay away and forgets old history. It returns after a last write of
// presence.
func (s *State) Run(ctx context.Context) error {
	// After a restart nobody had a chance to come back yet. This is no time of day:
	// a machine without a clock of its own starts years ago, and is set right later.
	started := time.Now()
	tick := time.NewTicker(presenceInterval)
	defer tick.Stop()
	trim := time.NewTicker(trimInterval)
	defer trim.Stop()
	turn := time.NewTimer(0) // what began or ended while no server ran
	defer turn.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return s.flushPresence(last)
		case <-turn.C:
			wait, err := s.turnRules(ctx)
			s.report("rules did not begin or end", err)
			turn.Reset(wait)
		case <-s.turned:
			turn.Reset(0)
		case <-tick.C:
			s.report("presence was not written", s.flushPresence(ctx))
			s.report("posture was not judged", s.assessAll(ctx))
			s.forgetShadows()
			if time.Since(started) >= ephemeralAbsence {
				s.report("ephemeral peers were not removed", s.removeEphemeral(ctx))
			}
		case <-trim.C:
			s.report("old history was not removed", s.trim(ctx))
		}
	}
}

// report logs the failure of a job; the next tick tries again.
func (s *State) report(message string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		s.cfg.Logger.Warn("a timed job failed", "job", message, "error", err)
	}
}

func (s *State) all() []*account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*account, 0, len(s.accounts))
	for _, a := range s.accounts {
		list = append(list, a)
	}
	return list
}

// removeEphemeral removes ephemeral peers that held no stream for a while. One
// that a policy names stays until the policy changes.
func (s *State) removeEphemeral(ctx context.Context) error {
	var failed []error
	for _, a := range s.all() {
		a.mu.RLock()
		var ids []string
		for _, at := range a.peers.order {
			if a.peers.byID[at.id].Ephemeral {
				ids = append(ids, at.id)
			}
		}
		a.mu.RUnlock()
		for _, id := range a.present.absent(ids, now().Add(-ephemeralAbsence)) {
			err := s.expirePeer(ctx, a, id)
			var known *problem.Problem
			if errors.As(err, &known) && (known.Kind == problem.KindPrecondition || known.Kind == problem.KindNotFound) {
				continue
			}
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// expirePeer removes an ephemeral peer, unless it came back a moment ago: that is
// asked once more inside the write, since writes of an account wait for each
// other.
func (s *State) expirePeer(ctx context.Context, a *account, id string) error {
	return s.write(ctx, auth.System(a.id), "", func(w *write) error {
		if len(a.present.absent([]string{id}, w.now.Add(-ephemeralAbsence))) == 0 {
			return errUnchanged
		}
		return w.removePeer(id, "", "peer.expire")
	}, func(*account) {})
}

// marks remember at which serial an account stood at past times. Only Run uses them.
type marks []mark

type mark struct {
	at     time.Time
	serial int64
}

// add notes the present serial and returns the last one that is older than age; zero when none is known.
func (m *marks) add(at time.Time, serial int64, age time.Duration) (old int64) {
	*m = append(*m, mark{at, serial})
	n := 0
	for n < len(*m) && at.Sub((*m)[n].at) >= age {
		old = (*m)[n].serial
		n++
	}
	*m = slices.Delete(*m, 0, n)
	return old
}

// forget drops from the logs of the network maps what is so old that an ordinal in it may be somebody else's now. An
// agent that was away for longer gets a snapshot.
func (s *State) forget(at time.Time) {
	for _, a := range s.all() {
		// A mark is looked at once in each interval, so an entry may be older than its mark by as much.
		if old := a.marks.add(at, a.engine.Serial(), ipam.Quarantine-trimInterval); old > 0 {
			a.engine.Forget(old)
		}
	}
}

func (s *State) trim(ctx context.Context) error {
	s.claims.trim(now())
	s.forget(now())
	return s.store.Write(ctx, func(tx *store.Tx) error {
		inside := context.WithoutCancel(ctx)
		return store.TrimAnswers(inside, tx, now(), now().Add(answerAge-secretAnswerAge))
	})
}

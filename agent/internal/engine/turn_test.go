package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRulesEndByTheClockOfTheMachine has nobody to tell the agent that a rule is
// over, by timers alone and by a clock that is set.
func TestRulesEndByTheClockOfTheMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, fake, _ := newTestLink(t)
		var ahead atomic.Int64 // of the wall clock, in nanoseconds
		l.wall = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { l.applyNewest(ctx); close(done) }()

		m := newMap(t, 1, 2)
		rule := m.Rules.At("r")
		begins, ends := l.wall().Add(5*time.Second).UTC(), l.wall().Add(time.Hour).UTC()
		rule.NotBefore, rule.NotAfter = &begins, &ends
		m.Rules = m.Rules.With("r", rule)
		l.give(m)
		at := func(moment time.Time, turn time.Time) {
			t.Helper()
			time.Sleep(moment.Sub(l.wall()))
			synctest.Wait()
			fake.mu.Lock()
			defer fake.mu.Unlock()
			if got := fake.firewall.Turn(); !got.Equal(turn) {
				t.Errorf("at %s the rules in force are those of %s, which turn at %s, want %s", moment, fake.firewall.At, got, turn)
			}
		}
		at(begins.Add(-time.Millisecond), begins)
		at(begins, ends)
		ahead.Add(int64(ends.Sub(l.wall()))) // no timer of the process sees it
		at(l.wall().Add(turnLook), time.Time{})
		cancel()
		<-done
	})
}

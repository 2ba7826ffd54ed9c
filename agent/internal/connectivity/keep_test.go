package connectivity

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/table"
)

// A machine that keeps paths has one to everybody before the first packet, and
// gives up what is not used when it does not keep them any more.
func TestKeep(t *testing.T) {
	w := newWire()
	opts := machineOptions{idle: 200 * time.Millisecond}
	a := newMachine(t, w, "a", "10.77.0.1", opts)
	b := newMachine(t, w, "b", "10.77.0.2", opts)
	a.paths.Keep(true)
	introduce(t, a, b)
	a.onPath(t, b, PathDirect)
	eventually(t, "the other side sleeps", func() bool { s, _ := b.paths.Status("a"); return s.Path == PathIdle && !s.Since.IsZero() })
	if s, _ := a.paths.Status("b"); s.Path != PathDirect {
		t.Errorf("%+v, want a direct path", s)
	}
	a.paths.Keep(false)
	eventually(t, "the path is given up without traffic", func() bool { s, _ := a.paths.Status("b"); return s.Path == PathIdle })
	a.paths.Keep(true)
	a.onPath(t, b, PathDirect)
}

// strangers are peers that nobody reaches.
func strangers(n int) table.Table[string, Peer] {
	var edit table.Edit[string, Peer]
	for i := range n {
		id := fmt.Sprint("c", i)
		edit.Set(id, Peer{ID: id, PublicKey: tunnel.GenerateKey().Public()})
	}
	return edit.Table()
}

// inTurns lets n turns of a machine's time pass and says how many pairs there is
// something to count in after each.
func (m *machine) inTurns(ctx context.Context, begin time.Time, n int, count func(*pair) bool, want func(turn, counted int)) {
	for turn := range n {
		m.paths.takeTurns(ctx, begin.Add(time.Duration(turn)*tickInterval))
		counted := 0
		for _, pr := range m.paths.pairs {
			if count(pr) {
				counted++
			}
		}
		want(turn, counted)
	}
}

// Of many peers to whom a path is kept the first few are turned to at once, and the
// others one after the other: when they are met, and again after a change of the
// network.
func TestPathsToManyAreLookedForInTurn(t *testing.T) {
	const many = 5 * turnsBurst
	a := newMachine(t, newWire(), "a", "10.77.0.1", machineOptions{})
	crowd := strangers(many)
	bounded := func(what string) func(turn, counted int) {
		return func(turn, counted int) {
			elapsed := float64(turn) * tickInterval.Seconds()
			if most := turnsBurst + int(elapsed*turnsPerSecond) + 1; counted > most {
				t.Errorf("%d pairs %s after %.1f s, want %d at most", counted, what, elapsed, most)
			}
			if turn == 100 && counted != many {
				t.Errorf("%d pairs %s in the end, want %d", counted, what, many)
			}
		}
	}
	awake := func(pr *pair) bool { return pr.awake }
	a.inLoop(func(ctx context.Context) {
		p, begin := a.paths, time.Now()
		p.keep = true
		p.know(ctx, crowd)
		if len(p.pairs) != turnsBurst {
			t.Errorf("%d pairs at once, want %d", len(p.pairs), turnsBurst)
		}
		a.inTurns(ctx, begin, 101, awake, bounded("awake"))

		p.turns, begin = newTurns(), time.Now()
		for _, pr := range p.pairs {
			pr.failures = 1
		}
		p.lookAgain(ctx)
		a.inTurns(ctx, begin, 101, func(pr *pair) bool { return pr.failures == 0 }, bounded("looked at again"))
	})
}

// Whoever is kept no more before its turn has come is left alone, and whoever has
// something to say before does not wait for it.
func TestTurnThatIsNotNeeded(t *testing.T) {
	a := newMachine(t, newWire(), "a", "10.77.0.1", machineOptions{})
	crowd := strangers(3 * turnsBurst)
	a.inLoop(func(ctx context.Context) {
		p := a.paths
		p.keep = true
		p.know(ctx, crowd)
		var early string
		for id := range p.turns.waiting {
			early = id
			break
		}
		p.wake(ctx, p.pairOfID(ctx, early))
		if !p.byID[early].awake {
			t.Error("a pair with something to say waits for its turn")
		}
		p.keep = false
		a.inTurns(ctx, time.Now(), 101, func(pr *pair) bool { return pr.awake }, func(turn, counted int) {
			if counted != turnsBurst+1 {
				t.Errorf("%d pairs awake at turn %d, want %d", counted, turn, turnsBurst+1)
			}
		})
		if left := len(p.turns.waiting); left != 0 {
			t.Errorf("%d peers wait for a turn that nobody wants", left)
		}
	})
}

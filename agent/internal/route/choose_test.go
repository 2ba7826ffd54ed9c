package route

import (
	"testing"
	"time"
)

// watched is a chooser with two routers in the test's hand: a is preferred.
type watched struct {
	t       *testing.T
	chooser Chooser
	now     time.Time
	sights  map[string]Sight
	metrics [2]int
	last    string
	moves   int
}

func watch(t *testing.T, a, b int) *watched {
	up := Sight{Answers: true, RTT: 20 * time.Millisecond}
	w := &watched{t: t, now: time.Unix(1e9, 0), sights: map[string]Sight{"a": up, "b": up}, metrics: [2]int{a, b}}
	w.pass(0)
	w.moves = 0
	return w
}

// pass lets time go by, looking every second, and returns who carries the traffic then.
func (w *watched) pass(d time.Duration) string {
	w.t.Helper()
	for end := w.now.Add(d); ; w.now = w.now.Add(time.Second) {
		chosen := w.chooser.Choose(w.now, "x", []Candidate{{"a", w.metrics[0]}, {"b", w.metrics[1]}}, func(p string) Sight { return w.sights[p] })
		if chosen != w.last {
			w.last = chosen
			w.moves++
		}
		if !w.now.Before(end) {
			return chosen
		}
	}
}

func (w *watched) want(router string, moves int) {
	w.t.Helper()
	if w.last != router || w.moves != moves {
		w.t.Errorf("%s carries the traffic after %d moves, want %s after %d", w.last, w.moves, router, moves)
	}
}

func (w *watched) is(router string, s Sight) { w.sights[router] = s }

func TestTwentyFlapsAMinuteAreOneMoveAtMost(t *testing.T) {
	w := watch(t, 10, 20)
	for range 20 {
		w.is("a", Sight{Down: true})
		w.pass(time.Second)
		w.is("a", Sight{Answers: true, RTT: 20 * time.Millisecond})
		w.pass(2 * time.Second)
	}
	w.want("b", 1)
	w.pass(hold)
	w.want("a", 2)
}

func TestFlappingRoundTripMovesNothing(t *testing.T) {
	w := watch(t, 10, 10)
	for range 20 {
		w.is("b", Sight{Answers: true, RTT: time.Millisecond})
		w.pass(time.Second)
		w.is("b", Sight{Answers: true, RTT: 30 * time.Millisecond})
		w.pass(2 * time.Second)
	}
	w.want("a", 0)
}

func TestDeadRouterIsLeftAtOnce(t *testing.T) {
	w := watch(t, 10, 20)
	w.is("a", Sight{Down: true, Busy: true})
	w.pass(0)
	w.want("b", 1)
}

func TestBothDeadStay(t *testing.T) {
	w := watch(t, 10, 20)
	w.is("a", Sight{Down: true})
	w.is("b", Sight{Down: true})
	w.pass(time.Minute)
	w.want("a", 0)
}

func TestShorterRoundTripNeedsAFifthAndAHold(t *testing.T) {
	w := watch(t, 10, 10)
	w.is("b", Sight{Answers: true, RTT: 17 * time.Millisecond})
	w.pass(10 * time.Minute)
	w.want("a", 0)
	w.is("b", Sight{Answers: true, RTT: 15 * time.Millisecond})
	w.pass(hold - 2*time.Second)
	w.want("a", 0)
	w.pass(4 * time.Second)
	w.want("b", 1)
}

func TestHigherMetricIsNotTakenForItsRoundTrip(t *testing.T) {
	w := watch(t, 10, 20)
	w.is("b", Sight{Answers: true, RTT: time.Millisecond})
	w.pass(10 * time.Minute)
	w.want("a", 0)
}

func TestFlowsStayWhileTheOldRouterAnswers(t *testing.T) {
	w := watch(t, 10, 20)
	w.is("a", Sight{Down: true})
	w.pass(0)
	w.is("a", Sight{Answers: true})
	w.is("b", Sight{Answers: true, Busy: true})
	w.pass(10 * time.Minute)
	w.want("b", 1)
	if got := w.chooser.Waiting("x"); got != "a" {
		t.Errorf("%q waits, want a", got)
	}
	w.is("b", Sight{Answers: true})
	w.pass(0)
	w.want("a", 2)
}

func TestSilentRouterIsNotTakenBack(t *testing.T) {
	w := watch(t, 10, 20)
	w.is("a", Sight{Down: true})
	w.pass(0)
	w.is("a", Sight{}) // forgotten, not heard
	w.pass(10 * time.Minute)
	w.want("b", 1)
}

func TestRouterThatIsGoneIsLeft(t *testing.T) {
	w := watch(t, 10, 20)
	if got := w.chooser.Choose(w.now, "x", []Candidate{{"b", 20}}, func(string) Sight { return Sight{} }); got != "b" {
		t.Errorf("%s carries the traffic, want b", got)
	}
	if got := w.chooser.Choose(w.now, "x", nil, func(string) Sight { return Sight{} }); got != "" {
		t.Errorf("%s carries the traffic, want nobody", got)
	}
}

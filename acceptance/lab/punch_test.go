//go:build linux

package lab_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// TestHolePunching shows which pairs of NATs can be crossed without a relay,
// as agents do: both learn their mapped address, tell each other, send at the
// same time, and answer to wherever a packet came from.
func TestHolePunching(t *testing.T) {
	for i, a := range lab.Kinds {
		for _, b := range lab.Kinds[i:] {
			hard := func(x, y lab.NAT) bool { return x == lab.Symmetric && (y == lab.Symmetric || y == lab.PortRestricted) }
			want := !hard(a, b) && !hard(b, a)
			t.Run(fmt.Sprintf("%s and %s", a, b), func(t *testing.T) {
				l := lab.New(t)
				server := listen(t, host(t, l, "server", l.Internet()))
				one := listen(t, host(t, l, "one", router(t, l, "home", a, l.Internet())))
				two := listen(t, host(t, l, "two", router(t, l, "office", b, l.Internet())))
				if got := punch(one, two, server, want); got != want {
					t.Errorf("they connect: %t, want %t", got, want)
				}
			})
		}
	}
}

// punch reports whether both sockets have heard from each other. Ten rounds
// are plenty: the first opens the NATs, the second arrives. Where they shall
// hear, a machine that is too slow for that gets more.
func punch(a, b, server socket, want bool) bool {
	atA, atB := a.reach(server), b.reach(server)
	heardA, heardB := false, false
	for end, i := time.Now().Add(arrival), 0; !heardA || !heardB; i++ {
		if i >= 10 && (!want || time.Now().After(end)) {
			return false
		}
		a.send("punch", atB)
		b.send("punch", atA)
		if _, from, ok := a.receive(20 * time.Millisecond); ok {
			heardA, atB = true, from
		}
		if _, from, ok := b.receive(20 * time.Millisecond); ok {
			heardB, atA = true, from
		}
	}
	return true
}

//go:build linux

package lab_test

import (
	"testing"
	"time"

	"github.com/wattlenet/wattle/acceptance/lab"
)

func wan(t *testing.T, l *lab.Lab, name string, line lab.Line) *lab.WAN {
	t.Helper()
	w, err := l.WAN(name, line, l.Internet())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// The delay of a long way is a lower bound, so this can be told from a clock.
func TestWANDelaysBothWays(t *testing.T) {
	l := lab.New(t)
	far := wan(t, l, "far", lab.Line{Delay: 30 * time.Millisecond})
	a, b := listen(t, host(t, l, "a", far)), listen(t, host(t, l, "b", l.Internet()))
	begin := time.Now()
	if from := a.reach(b); from != a.addr() {
		t.Errorf("a packet came from %s, want %s", from, a.addr())
	}
	b.send("answer", a.addr())
	if text, _, ok := a.receive(arrival); !ok || text != "answer" {
		t.Fatalf("received %q", text)
	}
	if took := time.Since(begin); took < 60*time.Millisecond {
		t.Errorf("there and back took %s, want 60 ms or more", took)
	}
}

func TestWANLosesAndRecovers(t *testing.T) {
	l := lab.New(t)
	far := wan(t, l, "far", lab.Line{Loss: 1})
	home := router(t, l, "home", lab.PortRestricted, l.Internet())
	a, b := listen(t, host(t, l, "a", far)), listen(t, host(t, l, "b", home))
	outside := listen(t, host(t, l, "c", l.Internet()))
	b.reach(outside) // the lab itself is well
	a.send("lost", outside.addr())
	for begin := time.Now(); far.Dropped() == 0; time.Sleep(time.Millisecond) {
		if time.Since(begin) > arrival {
			t.Fatal("the packet has not come to the long way")
		}
	}
	far.Set(lab.Line{})
	a.reach(outside) // fails on what was lost before, if it arrives after all
}

// A NAT behind a long way works as one in front of it.
func TestNATBehindWAN(t *testing.T) {
	l := lab.New(t)
	far := wan(t, l, "far", lab.Line{Delay: time.Millisecond})
	home := router(t, l, "home", lab.PortRestricted, far)
	a, b := listen(t, host(t, l, "a", home)), listen(t, host(t, l, "b", l.Internet()))
	if from := a.reach(b); from.Addr() != home.Addr {
		t.Errorf("a packet came from %s, want %s", from, home.Addr)
	}
}

package connectivity

import (
	"context"
	"net"
	"testing"
	"time"
)

// blackhole swallows what is sent to it.
func blackhole(t *testing.T) *net.UDPConn {
	t.Helper()
	hole, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hole.Close() })
	return hole
}

// hasRelayTo waits until a relay is at hand for packets to a peer.
func (m *machine) hasRelayTo(t *testing.T, to *machine) {
	t.Helper()
	eventually(t, "the relay is at hand", func() bool {
		var ready bool
		m.inLoop(func(context.Context) { ready = m.paths.byID[to.id].relay != nil })
		return ready
	})
}

// What one side sends without ever getting an answer is asked about once a
// second, not at each look, and never goes out twice.
func TestOneWayTrafficIsNotDoubted(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	f := startFlow(t, a, b, 7000)
	defer f.stop()
	eventually(t, "packets flow", func() bool { return f.received.Load() > 100 })
	doubts, questions := 0, 0
	var hushed bool
	begin := time.Now()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for sent := f.sent.Load(); f.sent.Load() < sent+1500; <-looks.C {
		a.inLoop(func(context.Context) {
			pr := a.paths.byID["b"]
			if pr.suspect {
				doubts++
			}
			if pr.hushed && !hushed {
				questions++
			}
			hushed = pr.hushed
		})
	}
	if limit := 2 + int(time.Since(begin)/time.Second); doubts > 0 || questions > limit {
		t.Errorf("doubted at %d looks, asked %d times in %v; want never and at most %d", doubts, questions, time.Since(begin), limit)
	}
}

// Where answers came until now their absence is noticed long before a second
// is over, and packets go through the relay as well. A busy machine may be late
// with that, but not each time.
func TestSilenceUnderTrafficIsNoticedSoon(t *testing.T) {
	const tries, soon = 10, 900 * time.Millisecond
	for range tries {
		took := silentUnderTraffic(t)
		t.Logf("first answer after %v", took)
		if took <= soon {
			return
		}
	}
	t.Errorf("no first answer of %d came within %v: the silence is noticed by the second", tries, soon)
}

// silentUnderTraffic takes the direct path of a pair away whose last answer has
// just come, and returns how long it takes until the next one.
func silentUnderTraffic(t *testing.T) time.Duration {
	t.Helper()
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathDirect)
	a.hasRelayTo(t, b)
	a.inLoop(func(context.Context) {
		pr := a.paths.byID["b"]
		pr.direct = a.device.Bind().DirectPath(blackhole(t).LocalAddr().(*net.UDPAddr).AddrPort())
		pr.direct.MarkReceived() // as if the last answer had just come
		a.paths.route(pr)
	})
	return a.reaches(t, b)
}

//go:build linux

package acceptance

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

const (
	// interval is the time between two echo requests of a flow that names no other.
	interval = 20 * time.Millisecond
	// grace is how long an answer may take before its request counts as lost.
	grace = time.Second
	// silence is how long a flow gets no answer before it counts as cut.
	silence = 500 * time.Millisecond
)

// A flow is an ICMP echo at an interval between two machines.
type flow struct {
	every time.Duration
	conn  *icmp.PacketConn
	to    net.Addr
	quit  chan struct{}
	wait  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	sent     []time.Time
	answered []time.Time // by sequence; zero: not yet
	looked   time.Time   // when resumed was asked last
}

func flowCommand(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) >= 2, "flow NAME start|unbroken|silent|cut|resumed|stop ...")
	name, verb := args[0], args[1]
	if verb == "start" {
		usage(ts, len(args) == 4 || len(args) == 5, "flow NAME start HOST ADDR [INTERVAL]")
		every := interval
		if len(args) == 5 {
			var err error
			every, err = time.ParseDuration(args[4])
			ts.Check(err)
		}
		s.startFlow(ts, name, args[2], args[3], every)
		return
	}
	f, ok := s.flows[name]
	if !ok {
		ts.Fatalf("no flow is named %s", name)
	}
	switch {
	case verb == "unbroken" && len(args) == 2:
		f.unbroken(ts)
	case verb == "silent" && len(args) == 2:
		f.silent(ts, s.changed)
	case verb == "cut" && len(args) == 3:
		limit, err := time.ParseDuration(args[2])
		ts.Check(err)
		if after := f.silent(ts, s.changed); after > limit {
			ts.Fatalf("the last answer came %s after the change, want at most %s", after, limit)
		}
	case verb == "resumed" && len(args) == 3:
		limit, err := time.ParseDuration(args[2])
		ts.Check(err)
		if pause := f.resumed(ts, s.changed); pause > limit {
			ts.Fatalf("no answer came for %s, want at most %s", pause, limit)
		}
	case verb == "stop" && len(args) == 2:
		f.stop()
		delete(s.flows, name)
	default:
		ts.Fatalf("usage: flow NAME start HOST ADDR [INTERVAL] | unbroken | silent | cut 2s | resumed 1s | stop")
	}
}

func (s *story) startFlow(ts *testscript.TestScript, name, host, address string, every time.Duration) {
	ip := net.ParseIP(address)
	if ip == nil {
		ts.Fatalf("%q is not an address", address)
	}
	f := &flow{every: every, to: &net.IPAddr{IP: ip}, quit: make(chan struct{})}
	ts.Check(s.find(ts, host).Do(func() (err error) {
		f.conn, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	}))
	s.flows[name] = f
	id := len(s.flows)
	f.wait.Go(func() { f.send(id) })
	f.wait.Go(func() { f.receive(id) })
	f.await(ts, func() bool { return slices.ContainsFunc(f.answered, isSet) }, "the first answer")
}

func isSet(t time.Time) bool { return !t.IsZero() }

func (f *flow) send(id int) {
	ticker := time.NewTicker(f.every)
	defer ticker.Stop()
	for {
		select {
		case <-f.quit:
			return
		case <-ticker.C:
		}
		f.mu.Lock()
		sequence := len(f.sent)
		f.sent, f.answered = append(f.sent, time.Now()), append(f.answered, time.Time{})
		f.mu.Unlock()
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: sequence & 0xffff, Data: []byte("wattle acceptance")}}
		raw, err := m.Marshal(nil)
		if err == nil {
			// A route that is missing for a moment loses the request, which
			// is what the flow is there to notice.
			_, _ = f.conn.WriteTo(raw, f.to)
		}
	}
}

func (f *flow) receive(id int) {
	buffer := make([]byte, 1500)
	for {
		n, from, err := f.conn.ReadFrom(buffer)
		if err != nil {
			return // closed by stop
		}
		m, err := icmp.ParseMessage(1, buffer[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply || from.String() != f.to.String() {
			continue
		}
		echo, ok := m.Body.(*icmp.Echo)
		if !ok || echo.ID != id {
			continue
		}
		f.mu.Lock()
		if echo.Seq < len(f.answered) && f.answered[echo.Seq].IsZero() {
			f.answered[echo.Seq] = time.Now()
		}
		f.mu.Unlock()
	}
}

// await waits until check, called with mu held, holds.
func (f *flow) await(ts *testscript.TestScript, check func() bool, what string) {
	deadline := time.Now().Add(readiness)
	for {
		f.mu.Lock()
		ok := check()
		sent := len(f.sent)
		f.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s did not come within %s (%d requests sent)", what, readiness, sent)
		}
		time.Sleep(interval)
	}
}

// unbroken checks that every request since the first answered one has its
// answer, and gives the latest ones the time to get it.
func (f *flow) unbroken(ts *testscript.TestScript) {
	f.mu.Lock()
	until := len(f.sent)
	f.mu.Unlock()
	deadline := time.Now().Add(grace)
	for {
		lost, first, last := f.lost(until)
		if lost == 0 {
			_, _ = fmt.Fprintf(ts.Stdout(), "%d requests, all answered\n", until)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%d of %d requests were not answered, between %s and %s of the flow", lost, until, first, last)
		}
		time.Sleep(interval)
	}
}

// lost counts requests without an answer, from the first answered one to
// until, and says when in the flow the first and last of them were sent.
func (f *flow) lost(until int) (n int, first, last time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	begin := max(slices.IndexFunc(f.answered, isSet), 0)
	for i := begin; i < until; i++ {
		if isSet(f.answered[i]) {
			continue
		}
		last = f.sent[i].Sub(f.sent[begin])
		if n == 0 {
			first = last
		}
		n++
	}
	return n, first, last
}

// silent waits until answers have stopped and returns how long after since
// the last one came; 0 when it came before.
func (f *flow) silent(ts *testscript.TestScript, since time.Time) time.Duration {
	var last time.Time
	f.await(ts, func() bool {
		for _, at := range f.answered {
			if at.After(last) {
				last = at
			}
		}
		return time.Since(last) > silence && time.Since(since) > silence
	}, "the end of the answers")
	after := max(last.Sub(since), 0)
	_, _ = fmt.Fprintf(ts.Stdout(), "last answer %d ms after the change\n", after.Milliseconds())
	return after
}

// resumed waits until requests that were sent after since are answered, and
// returns the longest time without an answer since the flow began or the last
// call.
func (f *flow) resumed(ts *testscript.TestScript, since time.Time) time.Duration {
	const enough = 5 // answers: the first may be a straggler
	f.await(ts, func() bool {
		fresh := 0
		for i, at := range f.answered {
			if isSet(at) && f.sent[i].After(since) {
				fresh++
			}
		}
		return fresh >= enough
	}, "an answer after the change")
	f.mu.Lock()
	defer f.mu.Unlock()
	var times []time.Time
	for _, at := range f.answered {
		if isSet(at) && at.After(f.looked) {
			times = append(times, at)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	f.looked = time.Now()
	var longest time.Duration
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i].Sub(times[i-1]))
	}
	_, _ = fmt.Fprintf(ts.Stdout(), "no answer for %d ms\n", longest.Milliseconds())
	return longest
}

// stop ends the flow; a second call does nothing.
func (f *flow) stop() {
	select {
	case <-f.quit:
		return
	default:
	}
	close(f.quit)
	_ = f.conn.Close() // wakes receive
	f.wait.Wait()
}

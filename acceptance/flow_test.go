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
	// grace is how far an answer may be overtaken before its request counts as
	// lost, and silence how much of a flow is not answered before it counts as
	// cut: both in requests of a flow, as many as it sends in that time.
	grace, silence = time.Second, 500 * time.Millisecond
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
}

func flowCommand(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) >= 2, "flow NAME start|unbroken|silent|resumed|stop ...")
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
	case verb == "resumed" && len(args) == 2:
		f.resumed(ts, s.changed)
	case verb == "stop" && len(args) == 2:
		f.stop()
		delete(s.flows, name)
	default:
		ts.Fatalf("usage: flow NAME start HOST ADDR [INTERVAL] | unbroken | silent | resumed | stop")
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
	deadline := time.Now().Add(patience)
	for {
		f.mu.Lock()
		ok := check()
		sent := len(f.sent)
		f.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s did not come within %s (%d requests sent)", what, patience, sent)
		}
		time.Sleep(interval)
	}
}

// requests is how many the flow sends in a time.
func (f *flow) requests(in time.Duration) int { return int(in / f.every) }

// unbroken checks that every request since the first answered one has its
// answer. One that has none is lost when many that were sent later have theirs,
// whatever time that takes.
func (f *flow) unbroken(ts *testscript.TestScript) {
	f.mu.Lock()
	until := len(f.sent)
	f.mu.Unlock()
	var lost []int
	f.await(ts, func() bool {
		begin := max(slices.IndexFunc(f.answered, isSet), 0)
		open := slices.ContainsFunc(f.answered[begin:until], func(t time.Time) bool { return !isSet(t) })
		lost = f.lost(begin, until)
		return !open || len(lost) > 0
	}, "the answer to the last request")
	if len(lost) > 0 {
		f.mu.Lock()
		defer f.mu.Unlock()
		first, last := f.sent[lost[0]].Sub(f.sent[0]), f.sent[lost[len(lost)-1]].Sub(f.sent[0])
		ts.Fatalf("%d of %d requests were not answered, between %s and %s of the flow", len(lost), until, first, last)
	}
	_, _ = fmt.Fprintf(ts.Stdout(), "%d requests, all answered\n", until)
}

// lost returns the requests of a range that later ones have overtaken. mu is
// held.
func (f *flow) lost(begin, until int) (lost []int) {
	overtaken := 0
	for i := len(f.answered) - 1; i >= begin; i-- {
		switch {
		case isSet(f.answered[i]):
			overtaken++
		case i < until && overtaken >= f.requests(grace):
			lost = append(lost, i)
		}
	}
	slices.Reverse(lost)
	return lost
}

// silent waits until none of the latest requests, all sent after since, is
// answered.
func (f *flow) silent(ts *testscript.TestScript, since time.Time) {
	f.await(ts, func() bool {
		first := len(f.sent) - f.requests(silence)
		return first >= 0 && f.sent[first].After(since) && time.Since(f.sent[first]) > silence &&
			!slices.ContainsFunc(f.answered[first:], isSet)
	}, "the end of the answers")
}

// resumed waits until requests that were sent after since are answered.
func (f *flow) resumed(ts *testscript.TestScript, since time.Time) {
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

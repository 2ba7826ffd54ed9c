package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// Choices of ours.
const (
	// queryTimeout bounds the search for one answer: what a program that asks is
	// usually ready to wait (resolv.conf(5)).
	queryTimeout = 5 * time.Second

	// headStart is how long a server is given before the next one is asked too.
	headStart = 250 * time.Millisecond

	// grudge is how long a server that failed is asked only after the others.
	grudge = 30 * time.Second

	// maxWaiting bounds the questions that wait for the same servers, also those
	// that wait for the answer to another's: servers that are silent use up no
	// more, and leave the others theirs.
	maxWaiting = 256
)

// Why there is no answer.
var (
	errBusy   = errors.New("too many questions wait for name servers")
	errNobody = errors.New("there is no name server to ask")
	errClosed = errors.New("the resolver is closed")
)

// A forwarder asks servers for the names of others and remembers the answers.
type forwarder struct {
	exchanger *exchanger
	closing   chan struct{} // closed by end
	flights   singleflight.Group

	// cache is another one after forget: an answer that is on its way meanwhile is
	// one of before.
	cache atomic.Pointer[cache]

	mu      sync.Mutex           // guards all below
	failed  map[Server]time.Time // when a server failed last
	waiting map[string]int       // questions by the servers that they wait for
}

func newForwarder(x *exchanger) *forwarder {
	f := &forwarder{exchanger: x, closing: make(chan struct{}), failed: map[Server]time.Time{}, waiting: map[string]int{}}
	f.cache.Store(newCache())
	return f
}

// end ends all waiting; it may be called once.
func (f *forwarder) end() { close(f.closing) }

// forget forgets answers, failures and connections: the network is another one,
// or other servers are asked.
func (f *forwarder) forget() {
	f.cache.Store(newCache())
	f.mu.Lock()
	clear(f.failed)
	f.mu.Unlock()
	f.exchanger.forget()
}

// find answers a question from memory or by asking the servers. Questions that
// are the same are asked once. The error wraps the failure of every server; an
// answer may be one that a server gave for its own failure.
func (f *forwarder) find(ctx context.Context, servers []Server, question *dns.Msg) (*dns.Msg, error) {
	if len(servers) == 0 {
		return nil, errNobody
	}
	key, memory := keyOf(question), f.cache.Load()
	if answer := memory.get(key, time.Now()); answer != nil {
		return answer, nil
	}
	asked := fmt.Sprint(servers)
	if !f.enter(asked) {
		return nil, errBusy
	}
	defer f.leave(asked)
	found, err, _ := f.flights.Do(fmt.Sprint(key, asked), func() (any, error) {
		if answer := memory.get(key, time.Now()); answer != nil {
			return answer, nil // of a flight that has landed since
		}
		// Whoever asked first may go away while others wait.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queryTimeout)
		defer cancel()
		r := &race{f: f, waiting: f.order(servers, time.Now()), question: question}
		answer, err := r.run(ctx)
		if err != nil {
			return nil, err
		}
		memory.put(key, answer, time.Now())
		return answer, nil
	})
	if err != nil {
		return nil, err
	}
	return found.(*dns.Msg).Copy(), nil
}

// enter counts a question that waits for servers, if there is room for it.
func (f *forwarder) enter(asked string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting[asked] >= maxWaiting {
		return false
	}
	f.waiting[asked]++
	return true
}

// leave is the end of enter.
func (f *forwarder) leave(asked string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting[asked]--; f.waiting[asked] == 0 {
		delete(f.waiting, asked)
	}
}

func keyOf(question *dns.Msg) cacheKey {
	q := question.Question[0]
	opt := question.IsEdns0()
	return cacheKey{canonical(q.Name), q.Qtype, opt != nil && opt.Do(), question.CheckingDisabled}
}

// order puts servers that failed lately behind the others.
func (f *forwarder) order(servers []Server, now time.Time) []Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	ordered := slices.Clone(servers)
	slices.SortStableFunc(ordered, func(a, b Server) int { return f.blame(a, now) - f.blame(b, now) })
	return ordered
}

// blame is 1 for a server that failed lately. The caller holds mu.
func (f *forwarder) blame(s Server, now time.Time) int {
	if when, failed := f.failed[s]; failed && now.Sub(when) < grudge {
		return 1
	}
	return 0
}

// note remembers whether a server failed.
func (f *forwarder) note(s Server, failed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if failed {
		f.failed[s] = time.Now()
	} else {
		delete(f.failed, s)
	}
}

// A race is one question to several servers. The first is asked, and the next
// one whenever a server has failed or its head start is over.
type race struct {
	f        *forwarder
	question *dns.Msg
	waiting  []Server // not asked yet
	asked    []Server // and silent so far
	outcomes chan outcome
	asking   sync.WaitGroup
	failure  *dns.Msg // what a server said of its own failure
	faults   []error
}

// outcome is what became of asking one server.
type outcome struct {
	server Server
	answer *dns.Msg
	err    error
}

// run returns the first answer about the name.
func (r *race) run(ctx context.Context) (*dns.Msg, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer r.asking.Wait()
	defer cancel()
	r.outcomes = make(chan outcome, len(r.waiting))
	r.ask(ctx)
	next := time.NewTimer(headStart)
	defer next.Stop()
	for len(r.asked) > 0 {
		select {
		case <-r.f.closing:
			return nil, errClosed
		case <-next.C:
			r.ask(ctx)
		case done := <-r.outcomes:
			if r.judge(done) {
				return done.answer, nil
			}
			if ctx.Err() == nil {
				r.ask(ctx)
			}
		}
		next.Reset(headStart)
	}
	if r.failure != nil {
		return r.failure, nil
	}
	return nil, errors.Join(r.faults...)
}

// ask asks the next server if there is one.
func (r *race) ask(ctx context.Context) {
	if len(r.waiting) == 0 {
		return
	}
	server := r.waiting[0]
	r.waiting, r.asked = r.waiting[1:], append(r.asked, server)
	question := r.question.Copy() // packing one changes it
	question.Id = dns.Id()        // each server hears another one, and none that a program has chosen
	r.asking.Go(func() {
		answer, err := r.f.exchanger.ask(ctx, server, question)
		if err == nil && answer.Rcode == dns.RcodeFormatError {
			// A server that knows no EDNS (RFC 6891, section 7).
			question.Extra = nil
			answer, err = r.f.exchanger.ask(ctx, server, question)
		}
		r.outcomes <- outcome{server, answer, err}
	})
}

// judge reports whether an outcome ends the race.
func (r *race) judge(done outcome) bool {
	at := slices.Index(r.asked, done.server)
	r.asked = slices.Delete(r.asked, at, at+1)
	if done.err == nil && (done.answer.Rcode == dns.RcodeSuccess || done.answer.Rcode == dns.RcodeNameError) {
		r.f.note(done.server, false)
		for _, earlier := range r.asked[:at] {
			r.f.note(earlier, true) // overtaken in spite of its head start
		}
		return true
	}
	r.f.note(done.server, true)
	if done.err != nil {
		r.faults = append(r.faults, done.err)
	} else {
		r.failure = done.answer
	}
	return false
}

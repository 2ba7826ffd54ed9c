package connectivity

import (
	"cmp"
	"context"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// Choices of ours.
const (
	// measureLimit bounds the wait for relays that do not answer; once one has,
	// the others get as long again, and secondChance at least.
	measureLimit = 100 * time.Millisecond
	secondChance = 10 * time.Millisecond

	// A relay is left for a nearer one when that is nearer by a fifth and by
	// worthMoving: a difference that is noise must not move anybody.
	measureEvery = 5 * time.Minute
	worthMoving  = 5 * time.Millisecond

	// relayDoubt is how long a relayed path may be silent while it is used,
	// until the relay is asked whether it lives; doubtEvery is how often.
	relayDoubt = 250 * time.Millisecond
	doubtEvery = time.Second

	// An answer is waited for through three transmissions, or four round trips
	// when these are longer. On a stream a queue may stand in front of it.
	doubtLimit       = 400 * time.Millisecond
	doubtLimitStream = 1500 * time.Millisecond
)

// A distance is how far away a relay is, and at which of its addresses that was
// measured.
type distance struct {
	rtt    time.Duration
	server netip.AddrPort
}

// measure asks each relay that is reached over UDP for its round trip, at all of
// its addresses: a binding request (RFC 8489, section 2). Relays that do not
// answer are not in the result.
func (r *relays) measure(ctx context.Context, urls []relayURL) map[string]distance {
	ctx, cancel := context.WithTimeout(ctx, measureLimit)
	defer cancel()
	type answer struct {
		host string
		distance
	}
	servers := slices.DeleteFunc(expanded(ctx, r.names, onePerHost(urls)), func(u relayURL) bool { return !u.server.IsValid() })
	answers := make(chan answer, len(servers))
	var asking sync.WaitGroup
	for _, u := range servers {
		asking.Go(func() {
			if rtt, err := r.roundTrip(ctx, u.server); err == nil {
				answers <- answer{u.host, distance{rtt, u.server}}
			}
		})
	}
	go func() {
		asking.Wait()
		close(answers)
	}()
	found := make(map[string]distance)
	var enough *time.Timer
	for a := range answers { // closed when all have answered, or ctx ends
		if _, faster := found[a.host]; !faster {
			found[a.host] = a.distance
		}
		if enough == nil {
			enough = time.AfterFunc(max(a.rtt, secondChance), cancel)
		}
	}
	if enough != nil {
		enough.Stop()
	}
	return found
}

// onePerHost returns one URL over UDP for each relay, at its first port.
func onePerHost(urls []relayURL) []relayURL {
	var some []relayURL
	for _, u := range urls {
		if !u.streaming() && !slices.ContainsFunc(some, func(other relayURL) bool { return other.name() == u.name() }) {
			some = append(some, u)
		}
	}
	return some
}

func (r *relays) roundTrip(ctx context.Context, server netip.AddrPort) (time.Duration, error) {
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	_, err = r.transactions.do(ctx, request, true, func(b []byte) error { return r.bind.WriteSTUN(b, server) })
	return time.Since(begin), err
}

// ranked returns urls in the order in which they are tried: UDP before
// streams, the nearest relay first and at the address that answered, one that
// did not answer last.
func ranked(urls []relayURL, measured map[string]distance) []relayURL {
	far := func(u relayURL) time.Duration {
		if d, ok := measured[u.host]; ok {
			return d.rtt
		}
		return math.MaxInt64
	}
	urls = slices.Clone(urls)
	slices.SortStableFunc(urls, func(a, b relayURL) int {
		return cmp.Or(cmp.Compare(a.transport, b.transport), cmp.Compare(far(a), far(b)))
	})
	for i := range urls {
		if !urls[i].streaming() {
			urls[i].server = measured[urls[i].host].server
		}
	}
	return urls
}

// closer allocates at a relay that is nearer than that of a by so much that a
// move is worth it; nil when there is none.
func (r *relays) closer(ctx context.Context, a *allocation) *allocation {
	urls := r.wanted()
	if a.url.streaming() || len(onePerHost(urls)) < 2 {
		return nil
	}
	measured := r.measure(ctx, urls)
	nearest := ranked(urls, measured)[0]
	next, answers := measured[nearest.host]
	if !answers || nearest.name() == a.url.name() {
		return nil
	}
	present, known := measured[a.url.host]
	if !known { // measure waits for the near ones only
		ctx, cancel := context.WithTimeout(ctx, a.patience())
		defer cancel()
		var err error
		if present.rtt, err = r.roundTrip(ctx, a.relay.Server()); err != nil {
			return nil // whether it lives is not the question here
		}
	}
	if !worthLeaving(present.rtt, next.rtt) {
		return nil
	}
	r.log.Info("another relay is nearer", "relay", nearest.host, "rtt", next.rtt.String(), "present", a.url.host, "present_rtt", present.rtt.String())
	return r.allocateElsewhere(ctx, nearest)
}

// worthLeaving reports whether a relay is left for one with another round trip.
func worthLeaving(present, next time.Duration) bool {
	return next <= present*4/5 && present-next >= worthMoving
}

// other allocates at another relay than that of a, which does not want to go
// on; nil when none answers.
func (r *relays) other(ctx context.Context, a *allocation) *allocation {
	urls := slices.DeleteFunc(slices.Clone(r.wanted()), func(u relayURL) bool { return u.name() == a.url.name() })
	for _, url := range ranked(urls, r.measure(ctx, urls)) {
		if next := r.allocateElsewhere(ctx, url); next != nil {
			return next
		}
	}
	return nil
}

// allocateElsewhere makes an allocation beside the present one.
func (r *relays) allocateElsewhere(ctx context.Context, url relayURL) *allocation {
	ctx, cancel := context.WithTimeout(ctx, allocateLimit)
	defer cancel()
	next, err := r.allocateAt(ctx, url, nil)
	if err != nil {
		r.log.Debug("another relay does not take us", "error", err.Error())
		return nil
	}
	return next
}

// question says that nothing comes through the relay although it should. It
// is asked at once, and given up when it does not answer soon.
func (r *relays) question(relay *tunnel.Relay) {
	r.mu.Lock()
	now := time.Now()
	due := now.Sub(r.questioned) >= doubtEvery
	if due {
		r.questioned, r.doubt, r.urgent = now, true, relay
	}
	r.mu.Unlock()
	if due {
		r.signal()
	}
}

// patience is how long a relay in doubt may take to answer.
func (a *allocation) patience() time.Duration {
	limit := doubtLimit
	if a.url.streaming() {
		limit = doubtLimitStream
	}
	return max(limit, 4*time.Duration(a.roundTrip.Load()))
}

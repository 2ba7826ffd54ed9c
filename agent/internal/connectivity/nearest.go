package connectivity

import (
	"cmp"
	"context"
	"math"
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
	measureLimit = headStart
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

// measure asks each relay that is reached over UDP for its round trip: a
// binding request (RFC 8489, section 2). Relays that do not answer are not in
// the result.
func (r *relays) measure(ctx context.Context, urls []relayURL) map[string]time.Duration {
	ctx, cancel := context.WithTimeout(ctx, measureLimit)
	defer cancel()
	type answer struct {
		host string
		rtt  time.Duration
	}
	hosts := udpHosts(urls)
	answers := make(chan answer, len(hosts))
	var asking sync.WaitGroup
	for _, host := range hosts {
		asking.Go(func() {
			if rtt, err := r.roundTrip(ctx, host); err == nil {
				answers <- answer{host, rtt}
			}
		})
	}
	go func() {
		asking.Wait()
		close(answers)
	}()
	rtts := make(map[string]time.Duration)
	var enough *time.Timer
	for a := range answers { // closed when all have answered, or ctx ends
		if rtts[a.host] = a.rtt; enough == nil {
			enough = time.AfterFunc(max(a.rtt, secondChance), cancel)
		}
	}
	if enough != nil {
		enough.Stop()
	}
	return rtts
}

func udpHosts(urls []relayURL) []string {
	var hosts []string
	for _, u := range urls {
		if !u.streaming() && !slices.Contains(hosts, u.host) {
			hosts = append(hosts, u.host)
		}
	}
	return hosts
}

func (r *relays) roundTrip(ctx context.Context, host string) (time.Duration, error) {
	server, err := resolve(ctx, host)
	if err != nil {
		return 0, err
	}
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	_, err = r.transactions.do(ctx, request, true, func(b []byte) error { return r.bind.WriteSTUN(b, server) })
	return time.Since(begin), err
}

// ranked returns urls in the order in which they are tried: UDP before
// streams, the nearest relay first, one that did not answer last.
func ranked(urls []relayURL, rtts map[string]time.Duration) []relayURL {
	distance := func(u relayURL) time.Duration {
		if rtt, ok := rtts[u.host]; ok {
			return rtt
		}
		return math.MaxInt64
	}
	urls = slices.Clone(urls)
	slices.SortStableFunc(urls, func(a, b relayURL) int {
		return cmp.Or(cmp.Compare(a.transport, b.transport), cmp.Compare(distance(a), distance(b)))
	})
	return urls
}

// closer allocates at a relay that is nearer than that of a by so much that a
// move is worth it; nil when there is none.
func (r *relays) closer(ctx context.Context, a *allocation) *allocation {
	urls := r.wanted()
	if a.url.streaming() || len(udpHosts(urls)) < 2 {
		return nil
	}
	rtts := r.measure(ctx, urls)
	nearest := ranked(urls, rtts)[0]
	present, measured := rtts[a.url.host]
	if !measured || nearest.host == a.url.host || rtts[nearest.host] > present*4/5 || present-rtts[nearest.host] < worthMoving {
		return nil
	}
	return r.allocateElsewhere(ctx, nearest)
}

// other allocates at another relay than that of a, which does not want to go
// on; nil when none answers.
func (r *relays) other(ctx context.Context, a *allocation) *allocation {
	urls := slices.DeleteFunc(slices.Clone(r.wanted()), func(u relayURL) bool { return u.host == a.url.host })
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

package connectivity

import (
	"context"
	"sync"
	"time"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// Choices of ours about peers that are watched.
const (
	// hushedPeer is how long a watched peer may say nothing to what is sent to it
	// before it is asked on every path.
	hushedPeer = 700 * time.Millisecond

	// pathless is how long a watched peer that is to be reached may be without any
	// path: signaling takes its time.
	pathless = 2 * time.Second

	askLost     = 3 * time.Second  // how often a lost peer is asked again
	measureEach = 20 * time.Second // how often the round trip of a watched peer is measured
)

// evidence is what is known about the life of a watched peer, beside that of
// its paths.
//
//	answers --silent for 0.7 s, asked on every path for 0.9 s--> lost --anything arrives--> answers
type evidence struct {
	asking bool      // on every path
	asked  time.Time // last
	lost   bool
	since  time.Time     // of lost
	rtt    time.Duration // of the path in use, relayed or direct
	bare   time.Time     // since when there is no path; zero: there is one
}

// watchPeer asks a watched peer when it is silent, and now and then for its
// round trip.
func (p *Pathfinder) watchPeer(ctx context.Context, pr *pair, now time.Time) {
	e := &pr.evidence
	if !pr.peer.Watched || e.asking {
		return
	}
	switch {
	case pr.primary != nil:
		e.bare = time.Time{}
	case e.bare.IsZero():
		e.bare = now
	}
	heard, ever := pr.heard()
	if e.lost && ever && heard < now.Sub(e.since) {
		e.lost = false
	}
	due := measureEach
	if e.lost {
		due = askLost
	}
	if pr.silent(now) || now.Sub(e.asked) > due {
		p.askPeer(ctx, pr, now)
	}
}

// heard returns how long ago anything arrived from the peer, and false when
// nothing ever has.
func (pr *pair) heard() (age time.Duration, ever bool) {
	for _, path := range pr.paths() {
		if at, received := path.Received(); received && (!ever || at < age) {
			age, ever = at, true
		}
	}
	return age, ever
}

// sent returns how long ago data left for the peer, and false when none has.
func (pr *pair) sent() (age time.Duration, ever bool) {
	for _, path := range pr.paths() {
		if at, left := path.Sent(); left && (!ever || at < age) {
			age, ever = at, true
		}
	}
	return age, ever
}

// silent reports whether the peer owes an answer.
func (pr *pair) silent(now time.Time) bool {
	if pr.primary == nil {
		return !pr.evidence.bare.IsZero() && now.Sub(pr.evidence.bare) > pathless
	}
	limit := max(hushedPeer, roundTrips*pr.evidence.rtt)
	heard, ever := pr.heard()
	return pr.primary.Unanswered() > limit && (!ever || heard > limit)
}

func (pr *pair) paths() (list []*tunnel.Path) {
	for _, path := range []*tunnel.Path{pr.direct, pr.relay} {
		if path != nil {
			list = append(list, path)
		}
	}
	return list
}

// askPeer probes every path at once. The peer is lost when none is answered and
// nothing else arrived meanwhile.
func (p *Pathfinder) askPeer(ctx context.Context, pr *pair, now time.Time) {
	e := &pr.evidence
	e.asking, e.asked = true, now
	paths, primary, silent := pr.paths(), pr.primary, pr.silent(now)
	probe := pr.probe
	p.task(func() {
		var asked sync.WaitGroup
		trips := make([]time.Duration, len(paths)) // 0: no answer
		for i, path := range paths {
			asked.Go(func() {
				if rtt, err := p.probe(ctx, probe, path, probeLimit); err == nil {
					trips[i] = rtt
				}
			})
		}
		asked.Wait()
		p.post(func(ctx context.Context) {
			e.asking = false
			if ctx.Err() != nil || !pr.awake {
				return
			}
			answered := false
			for i, path := range paths {
				answered = answered || trips[i] > 0
				if path == primary && trips[i] > 0 {
					e.rtt = trips[i]
				}
			}
			heard, ever := pr.heard()
			if answered || !silent || ever && heard < probeLimit {
				return
			}
			if !e.lost {
				p.log.Info("a peer that others are led through does not answer", "peer", pr.peer.ID)
			}
			e.lost, e.since = true, time.Now()
			p.publish(pr)
		})
	})
}

package connectivity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// Choices of ours.
const (
	allocateLimit   = 4 * time.Second
	relayKeepalive  = 25 * time.Second // below the 30 s after which many NATs forget a mapping
	refreshLimit    = 3 * time.Second
	permissionEvery = permissionLifetime - time.Minute
	soonUDP         = time.Second     // after a stream was first: the packets of UDP may have been lost
	retryUDP        = 2 * time.Minute // later, while the relay is reached over a stream
	firstBackoff    = 500 * time.Millisecond
	longestBackoff  = 30 * time.Second
	releaseLimit    = 500 * time.Millisecond

	// handover is how long an allocation that has been replaced still receives.
	handover = time.Second

	// steadyAfter is how long an allocation must have lived for its loss to be
	// an accident: one that is lost sooner is replaced after a growing delay.
	steadyAfter = 10 * time.Second
)

// relays keeps one allocation alive for as long as there is a relay. It owns
// the allocation; up and down tell the loop about it.
type relays struct {
	log          *slog.Logger
	bind         *tunnel.Bind
	transactions *transactions
	mark         uint32
	names        *net.Resolver
	allowed      []string // transports; empty: all
	up           func(*allocation)
	down         func(*allocation)

	changed   chan struct{}  // one token: look at the fields below again
	streaming chan struct{}  // one token: of the attempt that has the bind's stream
	leaving   sync.WaitGroup // allocations that have been replaced

	mu     sync.Mutex // guards all below
	urls   []relayURL
	lost   *tunnel.Relay // not usable any more
	why    error         // of lost
	doubt  bool          // the allocation may be gone: ask
	stale  bool          // so may the permission: the machine has slept
	moved  bool          // the network has changed: another relay may be nearer
	urgent *tunnel.Relay // whose doubt is about a path in use
	winner relayURL      // the last in this network; zero: none yet
	status RelayStatus

	questioned time.Time // last call of question that had effect
}

// set replaces the relays. A new credential is used from the next request on.
// The list comes when the control plane is back as well, perhaps together with
// a relay that has restarted, so the allocation is looked at each time.
func (r *relays) set(list []Relay) error {
	urls, err := parseRelays(list)
	urls = slices.DeleteFunc(urls, func(u relayURL) bool {
		return len(r.allowed) > 0 && !slices.Contains(r.allowed, u.transport.String())
	})
	r.mu.Lock()
	r.urls = urls
	r.doubt = true
	r.mu.Unlock()
	r.signal()
	return err
}

func (r *relays) networkChanged() {
	r.mu.Lock()
	r.doubt, r.moved = true, true
	r.winner = relayURL{} // another network may let other transports through
	r.mu.Unlock()
	r.signal()
}

var errStreamEnded = errors.New("the stream has ended")

// lose says that relay cannot be used any more.
func (r *relays) lose(relay *tunnel.Relay, why error) {
	r.mu.Lock()
	r.lost, r.why = relay, why
	r.mu.Unlock()
	r.signal()
}

func (r *relays) signal() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *relays) wanted() []relayURL {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.urls
}

func (r *relays) report(change func(*RelayStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

// run allocates, keeps, and allocates again until ctx ends.
func (r *relays) run(ctx context.Context) {
	defer r.leaving.Wait()
	var pause time.Duration
	for ctx.Err() == nil {
		urls := r.wanted()
		if len(urls) == 0 {
			r.report(func(s *RelayStatus) { *s = RelayStatus{} })
			r.sleep(ctx, longestBackoff*120)
			continue
		}
		r.settle()
		a, err := r.connect(ctx, urls)
		if err != nil {
			pause = longer(pause)
			r.report(func(s *RelayStatus) { *s = RelayStatus{Error: err.Error()} })
			r.log.Info("no relay answers", "error", err.Error(), "retry_in", pause.String())
			r.sleep(ctx, pause)
			continue
		}
		began := time.Now()
		for a != nil {
			a = r.serve(ctx, a)
		}
		if time.Since(began) > steadyAfter {
			pause = 0
		}
		r.sleep(ctx, pause)
		pause = longer(pause)
	}
}

func longer(pause time.Duration) time.Duration {
	return min(max(2*pause, firstBackoff), longestBackoff)
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// sleep returns early when something has changed.
func (r *relays) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.changed:
	case <-ctx.Done():
	}
}

// end deletes an allocation that is not needed any more.
func (r *relays) end(a *allocation) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
	defer cancel()
	if err := a.release(ctx); err != nil {
		r.log.Debug("relay allocation not released, it expires by itself", "error", err.Error())
	}
	if err := a.relay.Close(); err != nil {
		r.log.Debug("relay not closed", "error", err.Error())
	}
}

// serve keeps an allocation until it is lost or replaced, and returns its
// replacement, nil when there is none.
func (r *relays) serve(ctx context.Context, a *allocation) *allocation {
	transport := a.url.transport.String()
	r.log.Info("relay ready", "relay", a.relay.Server().String(), "transport", transport, "relayed", a.relayed.String())
	r.report(func(s *RelayStatus) {
		*s = RelayStatus{Server: a.relay.Server().String(), Region: a.url.region, Transport: transport, Relayed: a.relayed.String()}
		if a.mapped.IsValid() && !a.url.streaming() {
			s.Mapped = a.mapped.String()
		}
	})
	next, err := r.keep(ctx, a)
	if next != nil {
		// Peers hear of the next one first; until then this one receives.
		r.leaving.Go(func() {
			wait(ctx, handover)
			r.down(a)
			r.end(a)
		})
		return next
	}
	r.down(a)
	if err == nil {
		r.end(a)
		return nil
	}
	r.remember(relayURL{})
	// Nobody is there to release it.
	r.log.Info("relay lost", "relay", a.relay.Server().String(), "error", err.Error())
	if err := a.relay.Close(); err != nil {
		r.log.Debug("relay not closed", "error", err.Error())
	}
	return nil
}

// keep returns when the allocation is lost (an error), has a better
// replacement, or is not wanted any more.
func (r *relays) keep(ctx context.Context, a *allocation) (*allocation, error) {
	// Peers on the same relay reach us from its own address. With this
	// permission their first packet is let in before we have heard of them.
	// Nobody hears of the allocation before the request is on its way.
	if err := r.permit(ctx, a, func() { r.up(a) }); err != nil {
		return nil, err
	}
	now := time.Now()
	refreshAt, permitAt, upgradeAt := now.Add(a.refreshEvery()), now.Add(permissionEvery), now.Add(soonUDP)
	measureAt := now.Add(measureEvery)
	for {
		next := slices.MinFunc([]time.Time{refreshAt, permitAt, upgradeAt, measureAt}, time.Time.Compare)
		r.sleep(ctx, time.Until(next))
		doubt, urgent, lost := r.news(a)
		if r.slept() {
			permitAt = time.Time{}
		}
		if r.hasMoved() {
			measureAt = time.Time{}
		}
		if lost != nil || ctx.Err() != nil || !r.stillWanted(a) {
			return nil, lost
		}
		now := time.Now()
		if doubt || !now.Before(refreshAt) {
			limit := refreshLimit
			if urgent {
				limit = a.patience()
			}
			err := r.refresh(ctx, a, limit)
			if refusedWith(err, codeInsufficientCapacity) { // it is about to stop
				if next := r.other(ctx, a); next != nil {
					return next, nil
				}
			} else if err != nil {
				return nil, err
			}
			refreshAt = now.Add(a.refreshEvery())
		}
		if !now.Before(permitAt) {
			if err := r.permit(ctx, a, func() {}); err != nil {
				return nil, err
			}
			permitAt = now.Add(permissionEvery)
		}
		if !now.Before(upgradeAt) {
			if better := r.upgrade(ctx, a); better != nil {
				return better, nil
			}
			upgradeAt = now.Add(retryUDP)
		}
		if !now.Before(measureAt) {
			if nearer := r.closer(ctx, a); nearer != nil {
				return nearer, nil
			}
			measureAt = now.Add(measureEvery)
		}
	}
}

// permit does without the permission where the relay refuses it, whatever it
// says: channels bring their own.
func (r *relays) permit(ctx context.Context, a *allocation, written func()) error {
	err := a.permit(ctx, a.relayed.Addr(), written)
	if refusedWith(err) && !a.gone(ctx, err) {
		r.log.Debug("relay has no permission for its own address, packets wait for their channels", "error", err.Error())
		return nil
	}
	return err
}

// news returns what others have reported since the last call: that the
// allocation may be gone, perhaps while it is in use, and why it is lost if it is.
func (r *relays) news(a *allocation) (doubt, urgent bool, lost error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost == a.relay {
		lost = r.why
	}
	doubt, r.doubt = r.doubt, false
	urgent, r.urgent = r.urgent == a.relay, nil
	return doubt, urgent, lost
}

// hasMoved reports whether the network has changed since the last call.
func (r *relays) hasMoved() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	moved := r.moved
	r.moved = false
	return moved
}

// settle forgets what was reported about allocations before this moment.
func (r *relays) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doubt, r.moved = false, false
}

// stillWanted takes over a new credential.
func (r *relays) stillWanted(a *allocation) bool {
	for _, url := range r.wanted() {
		if url.same(a.url) {
			a.setCredential(url.credential)
			return true
		}
	}
	return false
}

// refresh keeps the allocation and the mapping of a NAT. It is answered only
// if the relay still has the allocation, at the address we send from now.
func (r *relays) refresh(ctx context.Context, a *allocation, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := a.refresh(ctx); err != nil {
		if refusedWith(err) {
			return err
		}
		return fmt.Errorf("relay %s does not answer: %w", a.relay.Server(), err)
	}
	return nil
}

// upgrade tries UDP again while a stream carries the relay, the nearest relay
// first.
func (r *relays) upgrade(ctx context.Context, a *allocation) *allocation {
	if !a.relay.Streaming() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, allocateLimit)
	defer cancel()
	urls := onePerHost(r.wanted())
	measured := r.measure(ctx, urls)
	for _, url := range ranked(urls, measured) {
		if _, answers := measured[url.host]; !answers {
			return nil
		}
		if better, err := r.allocateAt(ctx, url, nil); err == nil {
			r.remember(url)
			return better
		}
	}
	return nil
}

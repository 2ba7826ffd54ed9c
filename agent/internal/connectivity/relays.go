package connectivity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// Choices of ours.
const (
	headStart       = 250 * time.Millisecond // of UDP over the next transport
	allocateLimit   = 4 * time.Second
	relayKeepalive  = 25 * time.Second // below the 30 s after which many NATs forget a mapping
	relayPingLimit  = 3 * time.Second
	permissionEvery = permissionLifetime - time.Minute
	retryUDP        = 2 * time.Minute // while the relay is reached over a stream
	firstBackoff    = 500 * time.Millisecond
	longestBackoff  = 30 * time.Second
	releaseLimit    = 500 * time.Millisecond
)

// A relayURL is one way to reach one relay.
type relayURL struct {
	host      string // host:port
	streaming bool
	credential
}

// relays keeps one allocation alive for as long as there is a relay. It owns
// the allocation; up and down tell the loop about it.
type relays struct {
	log          *slog.Logger
	bind         *tunnel.Bind
	transactions *transactions
	mark         uint32
	up           func(*allocation)
	down         func(*allocation)
	mapped       func(netip.AddrPort)

	changed chan struct{} // one token: look at the fields below again

	mu     sync.Mutex // guards all below
	urls   []relayURL
	lost   *tunnel.Relay // its stream has ended
	moved  bool          // the network has changed
	status RelayStatus
}

// set replaces the relays. The same relays again do nothing; a new credential
// is used from the next request on.
func (r *relays) set(list []Relay) error {
	urls, err := parseRelays(list)
	r.mu.Lock()
	same := slices.Equal(urls, r.urls)
	r.urls = urls
	r.mu.Unlock()
	if !same {
		r.signal()
	}
	return err
}

func (r *relays) networkChanged() {
	r.mu.Lock()
	r.moved = true
	r.mu.Unlock()
	r.signal()
}

func (r *relays) streamLost(relay *tunnel.Relay) {
	r.mu.Lock()
	r.lost = relay
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
	backoff := firstBackoff
	for ctx.Err() == nil {
		urls := r.wanted()
		if len(urls) == 0 {
			r.report(func(s *RelayStatus) { *s = RelayStatus{} })
			r.sleep(ctx, longestBackoff*120)
			continue
		}
		a, err := r.connect(ctx, urls)
		if err != nil {
			r.report(func(s *RelayStatus) { *s = RelayStatus{Error: err.Error()} })
			r.log.Info("no relay answers", "error", err.Error(), "retry_in", backoff.String())
			r.sleep(ctx, backoff)
			backoff = min(2*backoff, longestBackoff)
			continue
		}
		backoff = firstBackoff
		for a != nil {
			a = r.serve(ctx, a)
		}
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

// connect tries every URL, each with a head start over the next, and returns
// the first allocation.
func (r *relays) connect(ctx context.Context, urls []relayURL) (*allocation, error) {
	ctx, cancel := context.WithTimeout(ctx, allocateLimit)
	defer cancel()
	type outcome struct {
		allocation *allocation
		err        error
	}
	outcomes := make(chan outcome, len(urls))
	failed := make(chan struct{}, len(urls)) // each failure lets the next begin
	var attempts sync.WaitGroup
	attempts.Go(func() {
		for i, url := range urls {
			if i > 0 {
				timer := time.NewTimer(headStart)
				select {
				case <-timer.C:
				case <-failed:
				case <-ctx.Done():
				}
				timer.Stop()
			}
			attempts.Go(func() {
				a, err := r.allocateAt(ctx, url)
				if err != nil {
					failed <- struct{}{}
				}
				outcomes <- outcome{a, err}
			})
		}
	})
	var winner *allocation
	var failures []error
	for range urls {
		o := <-outcomes
		switch {
		case o.err != nil:
			failures = append(failures, o.err)
		case winner == nil:
			winner = o.allocation
			cancel()
		default:
			r.end(o.allocation)
		}
	}
	attempts.Wait()
	if winner == nil {
		return nil, errors.Join(failures...)
	}
	return winner, nil
}

func (r *relays) allocateAt(ctx context.Context, url relayURL) (*allocation, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	server, err := resolve(ctx, url.host)
	if err != nil {
		return nil, err
	}
	var stream net.Conn
	if url.streaming {
		dialer := net.Dialer{Control: markSocket(r.mark)}
		if stream, err = dialer.DialContext(ctx, "tcp", server.String()); err != nil {
			return nil, fmt.Errorf("relay %s over TCP: %w", url.host, err)
		}
	}
	a := newAllocation(r.bind.OpenRelay(server, stream), r.transactions, url.credential)
	if err := a.allocate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("relay %s: %w", url.host, err), a.relay.Close())
	}
	return a, nil
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
	transport := "udp"
	if a.relay.Streaming() {
		transport = "tcp"
	}
	r.log.Info("relay ready", "relay", a.relay.Server().String(), "transport", transport, "relayed", a.relayed.String())
	r.report(func(s *RelayStatus) {
		*s = RelayStatus{Server: a.relay.Server().String(), Transport: transport, Relayed: a.relayed.String()}
		if a.mapped.IsValid() && transport == "udp" {
			s.Mapped = a.mapped.String()
		}
	})
	next, err := r.keep(ctx, a)
	r.down(a)
	if err != nil {
		r.log.Info("relay lost", "relay", a.relay.Server().String(), "error", err.Error())
	}
	r.end(a)
	return next
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
	refreshAt, permitAt := now.Add(a.lifetime/2), now.Add(permissionEvery)
	pingAt, upgradeAt := now.Add(relayKeepalive), now.Add(retryUDP)
	for {
		if err := r.keptUp(ctx, a); err != nil || !r.stillWanted(a) {
			return nil, err
		}
		next := slices.MinFunc([]time.Time{refreshAt, permitAt, pingAt, upgradeAt}, time.Time.Compare)
		r.sleep(ctx, time.Until(next))
		if ctx.Err() != nil {
			return nil, nil
		}
		now := time.Now()
		if !now.Before(refreshAt) {
			if err := a.refresh(ctx); err != nil {
				return nil, err
			}
			refreshAt = now.Add(a.lifetime / 2)
		}
		if !now.Before(permitAt) {
			if err := r.permit(ctx, a, func() {}); err != nil {
				return nil, err
			}
			permitAt = now.Add(permissionEvery)
		}
		if !now.Before(pingAt) {
			if err := r.ping(ctx, a); err != nil {
				return nil, err
			}
			pingAt = now.Add(relayKeepalive)
		}
		if !now.Before(upgradeAt) {
			if better := r.upgrade(ctx, a); better != nil {
				return better, nil
			}
			upgradeAt = now.Add(retryUDP)
		}
	}
}

// permit does without the permission where the relay refuses it: channels
// bring their own.
func (r *relays) permit(ctx context.Context, a *allocation, written func()) error {
	err := a.permit(ctx, a.relayed.Addr(), written)
	if refusedWith(err, codeForbidden) {
		return nil
	}
	return err
}

// keptUp reacts to what others have reported.
func (r *relays) keptUp(ctx context.Context, a *allocation) error {
	r.mu.Lock()
	lost, moved := r.lost == a.relay, r.moved
	r.moved = false
	r.mu.Unlock()
	if lost {
		return errors.New("the stream has ended")
	}
	if moved {
		return r.ping(ctx, a)
	}
	return nil
}

// stillWanted takes over a new credential.
func (r *relays) stillWanted(a *allocation) bool {
	for _, url := range r.wanted() {
		server, err := netip.ParseAddrPort(url.host)
		named := err != nil // a name was resolved once; it stays good
		if url.streaming == a.relay.Streaming() && (named || server == a.relay.Server()) {
			a.setCredential(url.credential)
			return true
		}
	}
	return false
}

func (r *relays) ping(ctx context.Context, a *allocation) error {
	ctx, cancel := context.WithTimeout(ctx, relayPingLimit)
	defer cancel()
	mapped, err := a.ping(ctx)
	if err != nil {
		return fmt.Errorf("relay %s does not answer: %w", a.relay.Server(), err)
	}
	if !a.relay.Streaming() {
		r.report(func(s *RelayStatus) { s.Mapped = mapped.String() })
		r.mapped(mapped)
	}
	return nil
}

// upgrade tries UDP again while a stream carries the relay.
func (r *relays) upgrade(ctx context.Context, a *allocation) *allocation {
	if !a.relay.Streaming() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, allocateLimit)
	defer cancel()
	for _, url := range r.wanted() {
		if url.streaming {
			continue
		}
		if better, err := r.allocateAt(ctx, url); err == nil {
			return better
		}
	}
	return nil
}

// parseRelays returns the URLs in the order they are tried: UDP before streams.
// It skips what it does not know and reports it.
func parseRelays(list []Relay) ([]relayURL, error) {
	var urls []relayURL
	var failures []error
	for _, relay := range list {
		for _, text := range relay.URLs {
			uri, err := stun.ParseURI(text)
			switch {
			case err != nil:
				failures = append(failures, fmt.Errorf("relay %q: %w", text, err))
			case uri.Scheme == stun.SchemeTypeTURN:
				urls = append(urls, relayURL{
					host:       net.JoinHostPort(uri.Host, fmt.Sprint(uri.Port)),
					streaming:  uri.Proto == stun.ProtoTypeTCP,
					credential: credential{relay.Username, relay.Password},
				})
			case uri.Scheme == stun.SchemeTypeSTUN: // read by stunServers
			default:
				failures = append(failures, fmt.Errorf("relay %q: scheme %s is not supported yet; use turn or stun", text, uri.Scheme))
			}
		}
	}
	slices.SortStableFunc(urls, func(a, b relayURL) int { return cmp.Compare(boolRank(a.streaming), boolRank(b.streaming)) })
	return urls, errors.Join(failures...)
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// stunServers returns host:port of every server that answers binding requests
// over UDP.
func stunServers(list []Relay) []string {
	var hosts []string
	for _, relay := range list {
		for _, text := range relay.URLs {
			uri, err := stun.ParseURI(text)
			if err == nil && uri.Scheme == stun.SchemeTypeSTUN {
				hosts = append(hosts, net.JoinHostPort(uri.Host, fmt.Sprint(uri.Port)))
			}
		}
	}
	return hosts
}

// resolve returns the first address of host:port, IPv4 before IPv6: relayed
// addresses are IPv4.
func resolve(ctx context.Context, hostport string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddrPort(hostport); err == nil {
		return addr, nil
	}
	host, portText, err := net.SplitHostPort(hostport)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("relay %s: %w", hostport, err)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", portText)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("relay %s: %w", hostport, err)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("relay %s: resolve the name: %w", hostport, err)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return cmp.Compare(boolRank(a.Is6()), boolRank(b.Is6())) })
	return netip.AddrPortFrom(addrs[0], uint16(port)), nil
}

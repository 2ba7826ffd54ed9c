package connectivity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Choices of ours.
const (
	// A transport that has said nothing for headStart is not waited for any
	// longer; one that has answered gets slowStart to finish. UDP needs fewer
	// round trips than any stream, so it is first where it works, however far the
	// relay: the head start has to cover no more than who runs when.
	headStart = 20 * time.Millisecond
	slowStart = 400 * time.Millisecond
	// streamHeadStart is that of one stream over the next: where UDP is
	// blocked, most ports of TCP are too.
	streamHeadStart = 10 * time.Millisecond
)

// connect tries every URL, each with a head start over the next, and returns
// the first allocation. The winner of last time begins.
func (r *relays) connect(ctx context.Context, urls []relayURL) (*allocation, error) {
	ctx, cancel := context.WithTimeout(ctx, allocateLimit)
	defer cancel()
	type outcome struct {
		url        relayURL
		allocation *allocation
		err        error
	}
	urls = expanded(ctx, r.names, r.order(ctx, urls))
	outcomes := make(chan outcome, len(urls))
	var attempts sync.WaitGroup
	heard := make(chan struct{}, 1) // whoever answers, no more are tried meanwhile
	attempts.Go(func() {
		for i, url := range urls {
			failed := make(chan struct{})
			attempts.Go(func() {
				a, err := r.allocateAt(ctx, url, heard)
				if err != nil {
					close(failed)
				}
				outcomes <- outcome{url, a, err}
			})
			start := headStart
			if url.streaming() || i > 0 && url.name() == urls[i-1].name() && url.host != urls[i-1].host {
				start = streamHeadStart // a second port is not worth a wait of its own
			}
			giveHeadStart(ctx, start, heard, failed)
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
			r.remember(o.url)
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

// giveHeadStart returns when it is the turn of the next transport as well.
func giveHeadStart(ctx context.Context, start time.Duration, heard, failed <-chan struct{}) {
	timer := time.NewTimer(start)
	defer timer.Stop()
	for {
		select {
		case <-heard:
			timer.Reset(slowStart)
		case <-timer.C:
			return
		case <-failed:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *relays) remember(url relayURL) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.winner = url
}

// order returns urls in the order in which they are tried. Several relays are
// measured first; the last winner begins unless the measurement knows better.
func (r *relays) order(ctx context.Context, urls []relayURL) []relayURL {
	if len(onePerHost(urls)) > 1 {
		if measured := r.measure(ctx, urls); len(measured) > 0 {
			return ranked(urls, measured)
		}
	}
	return r.ordered(urls)
}

// ordered returns urls with the last winner in front.
func (r *relays) ordered(urls []relayURL) []relayURL {
	r.mu.Lock()
	winner := r.winner
	r.mu.Unlock()
	first := func(u relayURL) bool { return u.same(winner) }
	urls = slices.Clone(urls)
	slices.SortStableFunc(urls, func(a, b relayURL) int { return cmp.Compare(boolRank(first(b)), boolRank(first(a))) })
	return urls
}

// allocateAt makes an allocation. It puts a token into heard, which may be nil,
// as soon as the server has said anything.
func (r *relays) allocateAt(ctx context.Context, url relayURL, heard chan<- struct{}) (*allocation, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stream, server, err := r.reach(ctx, url, heard)
	if err != nil {
		return nil, fmt.Errorf("relay %s over %s: %w", url.host, url.transport, err)
	}
	if stream != nil {
		// The bind has one stream: a second attempt would end the first.
		select {
		case r.streaming <- struct{}{}:
			defer func() { <-r.streaming }()
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), stream.Close())
		}
	}
	a := newAllocation(r.bind.OpenRelay(server, stream), r.transactions, url)
	a.heard = heard
	if err := a.allocate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("relay %s: %w", url.host, err), a.relay.Close())
	}
	return a, nil
}

// reach opens the stream to a relay, nil when it is reached over UDP. An open
// stream counts as an answer.
func (r *relays) reach(ctx context.Context, url relayURL, heard chan<- struct{}) (net.Conn, netip.AddrPort, error) {
	if !url.streaming() {
		if url.server.IsValid() {
			return nil, url.server, nil
		}
		addrs, err := resolve(ctx, r.names, url.host)
		if err != nil {
			return nil, netip.AddrPort{}, err
		}
		return nil, addrs[0], nil
	}
	stream, server, err := url.dial(ctx, &net.Dialer{Control: markSocket(r.mark), Resolver: r.names})
	if err == nil {
		select {
		case heard <- struct{}{}:
		default:
		}
	}
	return stream, server, err
}

package route

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// Watch calls changed when addresses, links or routes of the machine have
// changed, at most once per settle, until ctx ends. Changes of the interface
// named own are the agent's and do not count.
func Watch(ctx context.Context, own string, changed func()) error {
	// The subscriptions end with done; their channels close afterwards.
	done := make(chan struct{})
	addresses := make(chan netlink.AddrUpdate, 64)
	routes := make(chan netlink.RouteUpdate, 64)
	links := make(chan netlink.LinkUpdate, 64)
	var readers sync.WaitGroup
	events := make(chan struct{}, 1)
	notify := func(index int) {
		if link, err := netlink.LinkByIndex(index); err == nil && link.Attrs().Name == own {
			return
		}
		select {
		case events <- struct{}{}:
		default:
		}
	}
	defer readers.Wait()
	defer close(done)
	if err := netlink.AddrSubscribe(addresses, done); err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	readers.Go(func() {
		for update := range addresses {
			notify(update.LinkIndex)
		}
	})
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	readers.Go(func() {
		for update := range routes {
			notify(update.LinkIndex)
		}
	})
	if err := netlink.LinkSubscribe(links, done); err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	readers.Go(func() {
		for update := range links {
			notify(update.Attrs().Index)
		}
	})
	settled(ctx, events, changed)
	return nil
}

// settled calls changed once per burst of events.
func settled(ctx context.Context, events <-chan struct{}, changed func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
		}
		quiet := time.NewTimer(settle)
		select {
		case <-ctx.Done():
			quiet.Stop()
			return
		case <-quiet.C:
		}
		select { // what came meanwhile belongs to the burst
		case <-events:
		default:
		}
		changed()
	}
}

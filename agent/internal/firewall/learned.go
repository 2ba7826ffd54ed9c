package firewall

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// learned is what names of routes were found to mean, each address for a time.
type learned struct {
	now func() time.Time // replaced in tests

	mu     sync.Mutex // guards routes
	routes map[string]map[netip.Addr]time.Time
}

func newLearned() *learned {
	return &learned{now: time.Now, routes: map[string]map[netip.Addr]time.Time{}}
}

// add notes addresses of a route and forgets those whose time is over. It
// returns those that were not known.
func (l *learned) add(route string, addrs []netip.Addr, life time.Duration) (fresh []netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	known := l.routes[route]
	if known == nil {
		known = map[netip.Addr]time.Time{}
		l.routes[route] = known
	}
	maps.DeleteFunc(known, func(_ netip.Addr, ends time.Time) bool { return !ends.After(now) })
	for _, addr := range addrs {
		ends, met := known[addr]
		if !met {
			fresh = append(fresh, addr)
		}
		if next := now.Add(life); next.After(ends) {
			known[addr] = next
		}
	}
	return fresh
}

// holds reports whether an address belongs to a route at this moment.
func (l *learned) holds(route string, addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.routes[route][addr].After(l.now())
}

// remaining lists the addresses of a route in one family with the time that is
// left to each.
func (l *learned) remaining(route string, ipv6 bool) map[netip.Addr]time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, left := l.now(), map[netip.Addr]time.Duration{}
	for addr, ends := range l.routes[route] {
		if addr.Is6() == ipv6 && ends.After(now) {
			left[addr] = ends.Sub(now)
		}
	}
	return left
}

// keep forgets all routes but these.
func (l *learned) keep(routes map[string]Destination) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range slices.Collect(maps.Keys(l.routes)) {
		if _, known := routes[id]; !known {
			delete(l.routes, id)
		}
	}
}

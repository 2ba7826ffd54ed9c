package server

import (
	"net/netip"
	"sync"
	"time"
)

// What we answer to addresses that have proved nothing. A source address of a
// UDP packet may be forged, so every such answer can hit somebody who did not
// ask: at most 200 small datagrams a second, 400 at once, go to one address.
// An office of a thousand agents behind one address still starts in seconds,
// since a client repeats what it gets no answer to.
const (
	answerInterval = time.Second / 200
	answerBurst    = 400
	// budgetSources bounds the memory of the table; above it strangers share
	// the budget of one address.
	budgetSources = 1 << 16
)

// A budget counts the answers to each source address: an IPv4 address or an
// IPv6 network of 64 bits, which is what one subscriber holds.
type budget struct {
	mu sync.Mutex // guards due
	// due is when the source has paid for all its answers (a leaky bucket
	// kept as one instant: GCRA). An instant in the past is a full budget.
	due map[netip.Addr]time.Time
}

// spend takes one answer from the budget of source and reports whether there
// was one left.
func (b *budget) spend(source netip.Addr) bool {
	now := time.Now()
	key := subscriber(source)
	b.mu.Lock()
	defer b.mu.Unlock()
	due, known := b.due[key]
	if !known && len(b.due) >= budgetSources {
		b.forget(now)
		if len(b.due) >= budgetSources {
			key = netip.Addr{}
			due = b.due[key]
		}
	}
	if due.Before(now) {
		due = now
	}
	due = due.Add(answerInterval)
	if due.Sub(now) > answerBurst*answerInterval {
		return false
	}
	if b.due == nil {
		b.due = make(map[netip.Addr]time.Time)
	}
	b.due[key] = due
	return true
}

// forget drops the sources whose budget is full again. Called with mu held.
func (b *budget) forget(now time.Time) {
	for key, due := range b.due {
		if due.Before(now) {
			delete(b.due, key)
		}
	}
}

func subscriber(source netip.Addr) netip.Addr {
	source = source.Unmap()
	if source.Is4() {
		return source
	}
	network, err := source.WithZone("").Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return network.Addr()
}

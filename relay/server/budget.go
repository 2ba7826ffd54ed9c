package server

import (
	"net/netip"
	"sync"
	"time"
)

// What we answer to addresses that have proved nothing. A source address of a
// UDP packet may be forged, so every such answer can hit somebody who did not
// ask. Answers are no longer than what they answer but for two, which no client
// can do without and which fit into no shorter message: an address to a Binding
// request (40 bytes, 52 over IPv6), and a challenge to a request without a
// credential (60 bytes). The shortest request has 20 bytes, so that answers are
// three times as long at most. At most 200 of them a second, 400 at once, go to
// one address: 12 kB. An office of a thousand agents behind one address still
// starts in seconds, since a client repeats what it gets no answer to.
const (
	answerInterval = time.Second / 200
	answerBurst    = 400
	// budgetSources bounds the memory of the table; above it strangers share
	// the budget of one address.
	budgetSources = 1 << 16
	// forgetEvery bounds the work that a full table makes: a flood from forged
	// addresses must not have it searched for each packet.
	forgetEvery = time.Second
)

// A budget counts the answers to each source address: an IPv4 address or an
// IPv6 network of 64 bits, which is what one subscriber holds.
type budget struct {
	mu sync.Mutex // guards due, forgot
	// due is when the source has paid for all its answers (a leaky bucket
	// kept as one instant: GCRA). An instant in the past is a full budget.
	due    map[netip.Addr]time.Time
	forgot time.Time // when the table was searched last
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

// forget drops the sources whose budget is full again, every forgetEvery.
// Called with mu held.
func (b *budget) forget(now time.Time) {
	if now.Sub(b.forgot) < forgetEvery {
		return
	}
	b.forgot = now
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

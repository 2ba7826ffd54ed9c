package tunnel

import (
	"context"
	"net/netip"
	"sync"
)

// An EventKind says what the bind has seen.
type EventKind uint8

const (
	// Wake: the device wants to send to a peer that has no path.
	Wake EventKind = iota + 1

	// Arrived: a peer without a path has authenticated itself from Addr, and
	// the answer went there. The path stays until connectivity decides.
	Arrived

	// Stray: a packet of the peer's session came from Addr, which is on none of
	// its paths. It is not authenticated; it is a reason to look, no more.
	Stray

	// RelayLost: the stream to Relay has ended.
	RelayLost

	// Rekeyed: the peer uses its next key, Peer; the device sends to it by that.
	Rekeyed
)

// An Event is something connectivity must know. Peer is zero for RelayLost.
type Event struct {
	Kind  EventKind
	Peer  PublicKey
	Addr  netip.AddrPort
	Relay *Relay
}

type eventKey struct {
	kind  EventKind
	peer  PublicKey
	relay *Relay
}

// events is a queue in which each (kind, peer) waits at most once, so it is
// bounded by the number of peers and never drops a wake.
type events struct {
	ready chan struct{} // holds one token while pending is not empty

	mu      sync.Mutex // guards pending and order
	pending map[eventKey]Event
	order   []eventKey
}

func newEvents() *events {
	return &events{ready: make(chan struct{}, 1), pending: make(map[eventKey]Event)}
}

func (q *events) add(e Event) {
	key := eventKey{kind: e.Kind, peer: e.Peer}
	if e.Kind == RelayLost {
		key.relay = e.Relay
	}
	q.mu.Lock()
	if _, waiting := q.pending[key]; !waiting {
		q.order = append(q.order, key)
	}
	q.pending[key] = e
	q.mu.Unlock()
	q.signal()
}

func (q *events) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *events) next(ctx context.Context) (Event, error) {
	for {
		q.mu.Lock()
		if len(q.order) > 0 {
			key := q.order[0]
			q.order = q.order[1:]
			event := q.pending[key]
			delete(q.pending, key)
			more := len(q.order) > 0
			q.mu.Unlock()
			if more {
				q.signal()
			}
			return event, nil
		}
		q.mu.Unlock()
		select {
		case <-q.ready:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

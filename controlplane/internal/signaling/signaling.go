// Package signaling carries sealed messages from one peer to the stream of another (RFC 8825 calls that signaling).
//
//	POST /agent/v1/signal ──> visible? ──> within the rate? ──> bus: signal.<account>.<peer> ──> stream of the peer
//	                            │ no            │ no                  │ nobody there
//	                            └ not-found     └ rate-limited        └ peer-offline, at once
//
// A message arrives at most once, and those of a pair in order. Nothing is stored, and nothing is opened.
package signaling

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/bus"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
)

// MaxBox is the largest sealed message in bytes.
const MaxBox = 8 << 10

// Rates that we chose. A connection attempt takes some ten messages each way; a machine that comes back attempts all
// peers that it talks to at once.
const (
	pairPerSecond, pairBurst = 10, 50
	peerPerSecond, peerBurst = 200, 1000
)

// replyBusy is what a stream answers whose queue is full; any other reply means that it took the message.
const replyBusy = "busy"

// Maps knows who may talk to whom.
type Maps interface {
	// Engine returns the maps of an account.
	Engine(ctx context.Context, accountID string) (*netmap.Engine, error)
}

// A Config says what a router works with. All fields are required.
type Config struct {
	Bus  bus.Bus
	Maps Maps
}

// A Router passes messages on. It is safe for concurrent use.
type Router struct {
	cfg          Config
	pairs, peers *limiter
}

// New returns a router.
func New(cfg Config) (*Router, error) {
	if cfg.Bus == nil || cfg.Maps == nil {
		return nil, errors.New("signaling needs a bus and the maps")
	}
	return &Router{cfg, newLimiter(pairPerSecond, pairBurst), newLimiter(peerPerSecond, peerBurst)}, nil
}

// Signal passes a message from the calling peer to another one of its account. It returns a problem: invalid for a
// message over 8 KiB, not-found for a peer that the caller does not see, rate-limited, or peer-offline.
func (r *Router) Signal(ctx context.Context, p auth.Principal, to string, box []byte) error {
	if len(box) == 0 || len(box) > MaxBox {
		return problem.Invalid(problem.Field("box", "a message has 1 to %d bytes, this one has %d", MaxBox, len(box)))
	}
	engine, err := r.cfg.Maps.Engine(ctx, p.AccountID)
	if err != nil {
		return err
	}
	if !engine.Sees(to, p.PeerID) {
		return problem.NotFound("peer")
	}
	now := time.Now()
	if wait := max(r.peers.take(p.PeerID, now), r.pairs.take(p.PeerID+" "+to, now)); wait > 0 {
		return problem.RateLimited(wait)
	}
	reply, err := r.cfg.Bus.Request(ctx, subject(p.AccountID, to), pack(p.PeerID, box))
	switch {
	case errors.Is(err, bus.ErrNoResponders):
		return problem.PeerOffline()
	case err != nil:
		return problem.Unavailable(time.Second, fmt.Errorf("pass a signal on: %w", err))
	case string(reply) == replyBusy:
		return problem.RateLimited(time.Second)
	}
	return nil
}

// Attach hands the messages for a peer to deliver, in order, until detach returns. deliver must not block; it returns
// false when it cannot take a message, which the sender is told.
func (r *Router) Attach(accountID, peerID string, deliver func(from string, box []byte) bool) (detach func(), err error) {
	return r.cfg.Bus.Subscribe(subject(accountID, peerID), func(data []byte) []byte {
		from, box, ok := unpack(data)
		if !ok || !deliver(from, box) {
			return []byte(replyBusy)
		}
		return nil
	})
}

func subject(accountID, peerID string) string { return "signal." + accountID + "." + peerID }

// pack writes a message for the bus: the length of the sender's id (uint16, big endian), the id, the box.
func pack(from string, box []byte) []byte {
	data := make([]byte, 0, 2+len(from)+len(box))
	data = binary.BigEndian.AppendUint16(data, uint16(len(from)))
	return append(append(data, from...), box...)
}

// unpack reads what pack wrote. The box is a copy.
func unpack(data []byte) (from string, box []byte, ok bool) {
	if len(data) < 2 {
		return "", nil, false
	}
	length := int(binary.BigEndian.Uint16(data))
	if len(data) < 2+length {
		return "", nil, false
	}
	return string(data[2 : 2+length]), append([]byte(nil), data[2+length:]...), true
}

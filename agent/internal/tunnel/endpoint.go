package tunnel

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// Choices of ours.
const (
	// keptPackets bounds what an idle endpoint keeps besides the initiation: a
	// round trip's worth of transport messages of a session that outlived its path.
	keptPackets = 64

	// keptIndexes is how many of its own session indexes a peer is known by:
	// three live keypairs and the handshakes that failed between them.
	keptIndexes = 8

	// copyTime is how long the copy of a packet that has come directly may take
	// longer through a relay: until a new path has carried a full packet both carry
	// each, and the peer may have nothing else to say for long.
	copyTime = time.Second

	// strayInterval limits reports about packets from unexpected places.
	strayInterval = 250 * time.Millisecond
)

// routes is what an endpoint sends on. Both nil: idle.
type routes struct {
	primary *Path
	also    *Path // carries copies while the primary is in doubt
}

// An Endpoint is what the device holds for a peer in place of an address. It
// stays the same object for the life of the peer; the path it sends on is
// changed by one atomic store, without a word to the device.
//
//	idle --(packet to send)--> waking: the newest initiation is kept
//	idle, waking --Use(path)--> the kept packets leave on the path
//	any --Idle()--> idle
type Endpoint struct {
	bind *Bind
	key  PublicKey
	name string

	routes    atomic.Pointer[routes]
	lastStray atomic.Int64
	stirred   atomic.Int64 // bind clock: last change of the path or of a session
	byRelay   atomic.Int64 // bind clock: last receipt through a relay; 0: never
	directly  atomic.Int64 // bind clock: last receipt without one; 0: never

	firstData atomic.Pointer[func()] // runs with the first data, which is held back; nil: nothing waits for it
	joinedAt  atomic.Int64           // bind clock: when it was let go; 0: never
	again     atomic.Bool            // the handshake begins once more in a moment

	mu          sync.Mutex // guards all below
	initiation  []byte     // newest initiation of ours that has no response yet
	initiatedAt int64      // bind clock
	expiredAt   int64      // bind clock: when the device was told to give up what it had begun
	response    []byte     // newest response of ours
	respondedTo uint32     // the sender index it answers
	respondedAt int64      // bind clock
	answered    []byte     // newest response of the peer
	answeredAt  int64      // bind clock
	heard       []byte     // newest initiation of the peer
	heardAt     int64      // bind clock
	passed      bool       // the device has seen it
	kept        [][]byte   // transport messages kept while idle
	held        []heldPacket
	heldBytes   int
	indexes     []uint32 // our session indexes, oldest first
	repeat      *time.Timer
	delay       time.Duration // until the next repetition
	forgotten   bool
}

var _ conn.Endpoint = (*Endpoint)(nil)

// Key returns the peer's public key.
func (e *Endpoint) Key() PublicKey { return e.key }

// Primary returns the path that carries the peer's packets, nil when idle.
func (e *Endpoint) Primary() *Path { return e.routes.Load().primary }

// mtu returns the largest packet of the overlay that the path carries, in
// bytes; 0: no limit is known.
func (e *Endpoint) mtu() int {
	if p := e.routes.Load().primary; p != nil {
		return p.MTU()
	}
	return 0
}

// Use makes primary the path of the peer and sends what was kept. When also is
// not nil it carries a copy of each packet; the receiver's replay window drops
// the second.
func (e *Endpoint) Use(primary, also *Path) {
	e.routes.Store(&routes{primary: primary, also: also})
	e.tellMoved()
	if primary != nil {
		e.flush()
	}
}

// Idle takes the path away: the next packet wakes the peer again.
func (e *Endpoint) Idle() {
	e.stirred.Store(e.bind.now())
	e.routes.Store(&routes{})
	e.tellMoved()
}

func (e *Endpoint) tellMoved() {
	if e.bind.moved != nil {
		e.bind.moved(e)
	}
}

// dormant reports whether the peer has had no path and no handshake for age.
func (e *Endpoint) dormant(age time.Duration) bool {
	quiet, ever := e.bind.since(e.stirred.Load())
	return e.Primary() == nil && ever && quiet > age
}

// ComesRelayed reports whether the peer's packets come through a relay, judged
// by the last ones.
func (e *Endpoint) ComesRelayed() bool {
	byRelay, directly := e.byRelay.Load(), e.directly.Load()
	return byRelay != 0 && (directly == 0 || byRelay-directly > int64(copyTime))
}

// ComesDirect records that the peer has begun to send directly, before its
// next packet shows it.
func (e *Endpoint) ComesDirect() { e.directly.Store(e.bind.now()) }

// ClearSrc forgets the local address the path was last used from.
func (e *Endpoint) ClearSrc() {
	r := e.routes.Load()
	for _, p := range []*Path{r.primary, r.also} {
		if p != nil && p.relay == nil {
			p.inner.Store(&conn.StdNetEndpoint{AddrPort: p.addr})
		}
	}
}

// SrcToString returns nothing: the source belongs to the path.
func (e *Endpoint) SrcToString() string { return "" }

// DstToString returns the stable name of the peer, which ParseEndpoint knows.
func (e *Endpoint) DstToString() string { return e.name }

// DstToBytes returns the peer's key: distinct per peer, whatever the path.
func (e *Endpoint) DstToBytes() []byte { return e.key[:] }

// DstIP returns the address of the path, the zero address when there is none.
func (e *Endpoint) DstIP() netip.Addr {
	if p := e.Primary(); p != nil {
		return p.addr.Addr()
	}
	return netip.Addr{}
}

// SrcIP returns the zero address: the source belongs to the path.
func (e *Endpoint) SrcIP() netip.Addr { return netip.Addr{} }

func (e *Endpoint) send(bufs [][]byte) error {
	if len(bufs) == 1 {
		if e.crossesFirstData(bufs[0]) {
			return nil
		}
		if !e.noteHandshake(bufs[0]) {
			return nil
		}
	}
	r := e.routes.Load()
	if r.primary == nil {
		e.keep(bufs)
		return nil
	}
	err := r.primary.send(bufs)
	if r.also != nil {
		if other := r.also.send(bufs); err != nil {
			err = other
		}
	}
	return err
}

// learn files a session index of ours under the peer. The caller holds mu.
func (e *Endpoint) learn(index uint32) {
	if e.forgotten {
		return
	}
	e.stirred.Store(e.bind.now())
	e.bind.indexes.Store(index, e)
	e.indexes = append(e.indexes, index)
	if len(e.indexes) > keptIndexes {
		e.bind.indexes.CompareAndDelete(e.indexes[0], e)
		e.indexes = e.indexes[1:]
	}
}

// keep holds packets back until there is a path. The initiation is kept already.
func (e *Endpoint) keep(bufs [][]byte) {
	e.mu.Lock()
	for _, buf := range bufs {
		if wireguardType(buf) == messageTransport {
			e.kept = append(e.kept, slices.Clone(buf))
		}
	}
	if over := len(e.kept) - keptPackets; over > 0 {
		e.bind.counters.idleDrops.Add(uint64(over))
		e.kept = slices.Delete(e.kept, 0, over)
	}
	e.mu.Unlock()
	e.bind.events.add(Event{Kind: Wake, Peer: e.key})
	if e.Primary() != nil { // a path came meanwhile
		e.flush()
	}
}

// flush sends what was kept, the initiation first.
func (e *Endpoint) flush() {
	e.mu.Lock()
	var packets [][]byte
	if e.initiation != nil {
		packets = append(packets, slices.Clone(e.initiation))
		e.delay = firstRepeat
		e.armRepeat()
	}
	packets = append(packets, e.kept...)
	e.kept = nil
	e.mu.Unlock()
	r := e.routes.Load()
	for _, packet := range packets {
		for _, p := range []*Path{r.primary, r.also} {
			if p != nil {
				_ = p.send([][]byte{packet}) // a loss here is repaired by repetition
			}
		}
	}
}

// received notes a packet of this peer's session. False means that the device
// must not see it: copies of one response may arrive at the same moment over
// two paths, and the device, which looks at several handshakes at once, would
// take both and start its counter twice.
func (e *Endpoint) received(message []byte, from *origin, now int64) bool {
	e.noteArrival(from, now)
	if message[0] == messageTransport && e.firstData.Load() != nil && e.hold(message) {
		return false
	}
	if message[0] != messageResponse {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if bytes.Equal(message, e.answered) {
		return false
	}
	e.answered, e.answeredAt = slices.Clone(message), now
	if e.initiation != nil && receiverIndex(message) == senderIndex(e.initiation) {
		e.initiation = nil // the response to one before it is of no use to the device
	}
	return true
}

func (e *Endpoint) noteArrival(from *origin, now int64) {
	if from.relay != nil {
		e.byRelay.Store(now)
	} else {
		e.directly.Store(now)
	}
	r := e.routes.Load()
	for _, p := range []*Path{r.primary, r.also} {
		if p.matches(from) {
			p.touch(now)
			if from.relay == nil {
				p.inner.Store(from.inner)
			}
			return
		}
	}
	if r.primary == nil {
		return // whatever is sent next reports it
	}
	last := e.lastStray.Load()
	if last != 0 && now-last < int64(strayInterval) || !e.lastStray.CompareAndSwap(last, now) {
		return
	}
	e.bind.events.add(Event{Kind: Stray, Peer: e.key, Addr: from.addr, Relay: from.relay})
}

// forget releases what the bind holds for the peer.
func (e *Endpoint) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgotten = true
	if e.repeat != nil {
		e.repeat.Stop()
	}
	for _, index := range e.indexes {
		e.bind.indexes.CompareAndDelete(index, e)
	}
	e.indexes, e.initiation, e.response, e.answered, e.heard, e.kept = nil, nil, nil, nil, nil, nil
	e.routes.Store(&routes{})
}

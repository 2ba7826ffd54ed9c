package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"golang.zx2c4.com/wireguard/conn"
)

// Choices of ours.
const (
	stunQueue = 512 // STUN messages waiting for connectivity; more are dropped, ICE repeats

	// largestSTUN is that of a probe as large as the largest packet: what waits
	// takes 4.4 MiB at most.
	largestSTUN = MaximumMTU + Overhead

	// Each named initiation costs one X25519, about 50 us. Above this the
	// device still answers, at the address the message came from.
	namedPerSecond = 1000
	namedBurst     = 256

	peerPrefix = "peer:" // of an endpoint's name; the key in base64 follows
)

// BindConfig is what a Bind needs.
type BindConfig struct {
	Logger     *slog.Logger // required
	PrivateKey PrivateKey   // required: names the senders of handshakes
	Single     bool         // no segmentation offload, see Config
}

// A Bind is the agent's one UDP socket per address family, seen by the
// WireGuard device as its conn.Bind. It wraps the standard bind, so batches and
// offloads are those of WireGuard, and sorts what arrives: WireGuard for the
// device, STUN for connectivity, ChannelData of our relays unwrapped in place.
//
//	socket -> standard bind -> classify -+-> WireGuard -> Endpoint by session index
//	                                     +-> STUN -> ReadSTUN
//	                                     +-> ChannelData -> unwrap -> WireGuard or STUN
//	stream of a relay -> frames ---------+
//
// A packet is filed under its peer by the receiver index it carries, not by
// its source: indexes are ours, and two peers may share a source address.
type Bind struct {
	log    *slog.Logger
	std    conn.Bind // sockets, over the standard bind
	single bool      // no segmentation offload
	own    atomic.Pointer[ownKey]
	named  *rate.Limiter
	start  time.Time
	events *events

	indexes sync.Map                                  // uint32 -> *Endpoint
	relays  atomic.Pointer[map[netip.AddrPort]*Relay] // by server address, UDP only; copied on write
	stun    chan STUNMessage
	streams *streamSlot

	// admit is called with the sender of each handshake before the device sees it.
	// It is set before the bind is opened; nil: the device has every peer.
	admit func(PublicKey)

	// moved is called when an endpoint has got other paths. It is set before the
	// bind is opened; nil: nobody has to know.
	moved func(*Endpoint)

	// again is called with the peer for which the device has begun a handshake too
	// soon after another one. It is set before the bind is opened; nil: the
	// handshake is sent as it is.
	again func(PublicKey)

	counters counters
	port     atomic.Uint32
	open     atomic.Bool

	mu    sync.Mutex // guards peers and writes to relays
	peers map[PublicKey]*Endpoint
}

var _ conn.Bind = (*Bind)(nil)

// counters are only ever added to.
type counters struct {
	noise, stunDrops, unknownRelay, idleDrops, refusedTrains, tooBig, queueDrops, retries atomic.Uint64
}

// Drops counts what the bind did not deliver, by reason, since its creation.
type Drops struct {
	Noise         uint64 // datagrams of no known protocol
	STUN          uint64 // STUN messages while connectivity was behind
	UnknownRelay  uint64 // ChannelData from elsewhere than a relay of ours
	Idle          uint64 // packets beyond those kept for a peer without a path
	RefusedTrains uint64 // batches that the kernel did not take whole
	TooBig        uint64 // packets larger than the path
	Queue         uint64 // packets dropped because a stream to a relay was too slow
}

// ByReason returns the same by a word for each reason.
func (d Drops) ByReason() map[string]uint64 {
	return map[string]uint64{
		"noise": d.Noise, "stun": d.STUN, "unknown_relay": d.UnknownRelay, "idle": d.Idle,
		"refused_train": d.RefusedTrains, "too_big": d.TooBig, "queue": d.Queue,
	}
}

// NewBind makes a bind that is not open yet.
func NewBind(cfg BindConfig) (*Bind, error) {
	if cfg.Logger == nil || cfg.PrivateKey.IsZero() {
		return nil, errors.New("tunnel: a bind needs a logger and a private key")
	}
	b := &Bind{
		log:    cfg.Logger,
		std:    newSockets(),
		single: cfg.Single,
		named:  rate.NewLimiter(namedPerSecond, namedBurst),
		start:  time.Now(),
		events: newEvents(),
		stun:   make(chan STUNMessage, stunQueue),
		peers:  make(map[PublicKey]*Endpoint),
	}
	b.setKey(cfg.PrivateKey)
	b.relays.Store(&map[netip.AddrPort]*Relay{})
	b.streams = newStreamSlot(b)
	return b, nil
}

// PublicKey returns the key the bind answers for.
func (b *Bind) PublicKey() PublicKey { return b.own.Load().public }

// ownKey is the key the bind answers for.
type ownKey struct {
	public PublicKey
	reader *initiationReader
}

func (b *Bind) setKey(private PrivateKey) {
	b.own.Store(&ownKey{public: private.Public(), reader: newInitiationReader(private)})
}

// Port returns the UDP port the bind listens on, 0 while it is closed.
func (b *Bind) Port() uint16 { return uint16(b.port.Load()) }

// Next returns the next event, and the context's error when it ends first.
func (b *Bind) Next(ctx context.Context) (Event, error) { return b.events.next(ctx) }

// Endpoint returns the endpoint of a peer, made at the first call.
func (b *Bind) Endpoint(key PublicKey) *Endpoint {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.peers[key]; ok {
		return e
	}
	e := &Endpoint{bind: b, key: key, name: peerPrefix + key.String()}
	e.routes.Store(&routes{})
	e.stirred.Store(b.now())
	b.peers[key] = e
	return e
}

// Forget drops the endpoint of a peer that has left.
func (b *Bind) Forget(key PublicKey) {
	b.mu.Lock()
	e := b.peers[key]
	delete(b.peers, key)
	b.mu.Unlock()
	if e != nil {
		e.forget()
	}
}

// keepOnly drops the endpoints of peers that have left.
func (b *Bind) keepOnly(stays func(PublicKey) bool) {
	b.mu.Lock()
	var gone []PublicKey
	for key := range b.peers {
		if !stays(key) {
			gone = append(gone, key)
		}
	}
	b.mu.Unlock()
	for _, key := range gone {
		b.Forget(key)
	}
}

// Handshaking returns the peers of which an initiation of ours waits for its
// response.
func (b *Bind) Handshaking() []PublicKey {
	b.mu.Lock()
	all := slices.Collect(maps.Values(b.peers))
	b.mu.Unlock()
	var keys []PublicKey
	for _, e := range all {
		if e.Handshaking() {
			keys = append(keys, e.key)
		}
	}
	return keys
}

// Drops returns the counters.
func (b *Bind) Drops() Drops {
	c := &b.counters
	return Drops{
		Noise: c.noise.Load(), STUN: c.stunDrops.Load(), UnknownRelay: c.unknownRelay.Load(),
		Idle: c.idleDrops.Load(), RefusedTrains: c.refusedTrains.Load(), TooBig: c.tooBig.Load(),
		Queue: c.queueDrops.Load(),
	}
}

// Retries counts the handshakes that the device has begun by itself because the
// one before had led to nothing for 5 s (RekeyTimeout of the white paper, section
// 6.1), since the bind's creation.
func (b *Bind) Retries() uint64 { return b.counters.retries.Load() }

// NetworkChanged forgets the local addresses that paths were used from; the
// device's own listener for routes starts for the standard bind only.
func (b *Bind) NetworkChanged() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.peers {
		e.ClearSrc()
	}
	for _, r := range *b.relays.Load() {
		r.clearSource()
	}
}

// Open implements conn.Bind.
func (b *Bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	fns, actual, err := b.std.Open(port)
	if err != nil {
		return nil, 0, fmt.Errorf("open UDP port %d: %w", port, err)
	}
	b.port.Store(uint32(actual))
	b.open.Store(true)
	wrapped := make([]conn.ReceiveFunc, 0, len(fns)+1)
	for _, fn := range fns {
		wrapped = append(wrapped, b.sorted(fn))
	}
	return append(wrapped, b.streams.open()), actual, nil
}

// Close implements conn.Bind. Endpoints, paths and relays survive: the device
// closes and opens its bind to change port or mark.
func (b *Bind) Close() error {
	b.open.Store(false)
	b.port.Store(0)
	b.streams.close()
	return b.std.Close()
}

// SetMark implements conn.Bind.
func (b *Bind) SetMark(mark uint32) error { return b.std.SetMark(mark) }

// BatchSize implements conn.Bind.
func (b *Bind) BatchSize() int { return b.std.BatchSize() }

// ParseEndpoint implements conn.Bind. It knows the names that endpoints return
// from DstToString and no addresses.
func (b *Bind) ParseEndpoint(name string) (conn.Endpoint, error) {
	text, ok := strings.CutPrefix(name, peerPrefix)
	if !ok {
		return nil, fmt.Errorf("endpoint %q: want %s<public key>", name, peerPrefix)
	}
	key, err := ParsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", name, err)
	}
	return b.Endpoint(key), nil
}

// Send implements conn.Bind.
func (b *Bind) Send(bufs [][]byte, to conn.Endpoint) error {
	if len(bufs) == 0 {
		return nil
	}
	switch e := to.(type) {
	case *Endpoint:
		return e.send(bufs)
	case *arrival:
		return e.send(bufs)
	default:
		return conn.ErrWrongEndpointType
	}
}

// sorted wraps one receive function of the standard bind.
func (b *Bind) sorted(receive conn.ReceiveFunc) conn.ReceiveFunc {
	return func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		n, err := receive(packets, sizes, eps)
		if err != nil {
			if !b.open.Load() {
				return 0, net.ErrClosed
			}
			return n, err
		}
		batch := sorter{bind: b, now: b.now()}
		for i := range n {
			if sizes[i] == 0 {
				continue
			}
			inner, ok := eps[i].(*conn.StdNetEndpoint)
			if !ok {
				sizes[i] = 0
				continue
			}
			from := origin{addr: normal(inner.AddrPort), inner: inner}
			sizes[i], eps[i] = batch.place(packets[i], sizes[i], &from)
		}
		return n, nil
	}
}

// updateRelays replaces the table of relays with a changed copy.
func (b *Bind) updateRelays(change func(map[netip.AddrPort]*Relay)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := maps.Clone(*b.relays.Load())
	change(next)
	b.relays.Store(&next)
}

// now returns the time since the bind was made; never 0, which means never.
func (b *Bind) now() int64 { return int64(time.Since(b.start)) + 1 }

func (b *Bind) since(moment int64) (time.Duration, bool) {
	if moment == 0 {
		return 0, false
	}
	return time.Duration(b.now() - moment), true
}

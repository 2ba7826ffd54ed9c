package tunnel

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/conn"
)

// trainSize is the memory of one encapsulated batch: 128 packets of 1,500
// bytes fit. It must be at least 64 KiB, the most the kernel segments at once.
const trainSize = 256 << 10

var errNotOpen = fmt.Errorf("the tunnel's socket is not open: %w", net.ErrClosed)

// A Relay is an allocation on a TURN server, seen from the data path: how to
// wrap a packet for a peer and where to write it. Connectivity makes and keeps
// the allocation.
type Relay struct {
	bind   *Bind
	server netip.AddrPort
	stream *stream // nil: UDP

	inner    atomic.Pointer[conn.StdNetEndpoint]
	channels atomic.Pointer[map[uint16]netip.AddrPort] // copied on write, under bind.mu
	train    chan []byte                               // one spare slab for batches
}

// OpenRelay makes the relay at server known, so that its ChannelData is
// accepted. stream is the connection to it when it does not speak UDP; the
// bind owns it from here on. Close the relay when its allocation ends.
func (b *Bind) OpenRelay(server netip.AddrPort, connection net.Conn) *Relay {
	r := &Relay{bind: b, server: normal(server), train: make(chan []byte, 1)}
	r.channels.Store(&map[uint16]netip.AddrPort{})
	r.clearSource()
	if connection != nil {
		r.stream = newStream(r, connection)
		b.streams.put(r.stream)
		return r
	}
	b.updateRelays(func(relays map[netip.AddrPort]*Relay) { relays[r.server] = r })
	return r
}

// Server returns the address of the relay.
func (r *Relay) Server() netip.AddrPort { return r.server }

// Streaming reports whether the relay is reached over a stream.
func (r *Relay) Streaming() bool { return r.stream != nil }

// Close forgets the relay and ends its stream. Paths through it drop packets.
func (r *Relay) Close() error {
	if r.stream != nil {
		r.bind.streams.drop(r.stream)
		return r.stream.Close()
	}
	r.bind.updateRelays(func(relays map[netip.AddrPort]*Relay) {
		if relays[r.server] == r {
			delete(relays, r.server)
		}
	})
	return nil
}

// Write sends one message to the relay itself: TURN control.
func (r *Relay) Write(message []byte) error {
	if r.stream != nil {
		r.stream.push([][]byte{message}, true)
		return nil // a stream that has ended is told by an Event
	}
	if !r.bind.open.Load() {
		return errNotOpen
	}
	return r.bind.write([][]byte{message}, &r.inner)
}

// Path makes the path to the peer at a relayed address. Channel is the number
// bound to it; with 0 each packet goes as a Send indication, which needs a
// permission only.
func (r *Relay) Path(peer netip.AddrPort, channel uint16) *Path {
	peer = normal(peer)
	if channel != 0 && r.peerOf(channel) != peer {
		r.bind.mu.Lock()
		next := maps.Clone(*r.channels.Load())
		next[channel] = peer
		r.channels.Store(&next)
		r.bind.mu.Unlock()
	}
	return &Path{bind: r.bind, relay: r, addr: peer, channel: channel}
}

func (r *Relay) peerOf(channel uint16) netip.AddrPort { return (*r.channels.Load())[channel] }

func (r *Relay) clearSource() { r.inner.Store(&conn.StdNetEndpoint{AddrPort: r.server}) }

// relayAt returns the relay reached by UDP at addr, nil when there is none.
func (b *Bind) relayAt(addr netip.AddrPort) *Relay { return (*b.relays.Load())[addr] }

// send wraps a batch for the peer of a path and writes it.
//
// The standard bind coalesces by appending each packet to the first one of a
// train. Here the wrapped packets lie one behind the other in one slab and
// each has the rest of the slab as capacity, so every append finds its bytes
// in place already and segmentation offload is kept.
func (r *Relay) send(bufs [][]byte, p *Path) error {
	slab := r.takeSlab()
	defer r.putSlab(slab)
	var failure error
	for len(bufs) > 0 {
		train, used := r.wrap(slab, bufs, p)
		if used == 0 { // larger than the slab: no path carries that
			r.bind.counters.tooBig.Add(1)
			used = 1
		} else if err := r.write(train, p); err != nil {
			failure = err
		}
		bufs = bufs[used:]
	}
	return failure
}

// wrap fills the slab and returns the wrapped packets and how many they are.
func (r *Relay) wrap(slab []byte, bufs [][]byte, p *Path) (train [][]byte, used int) {
	at := 0
	for _, buf := range bufs {
		if at+len(buf)+wrapOverhead > len(slab) {
			break
		}
		end := len(r.appendFrame(slab[:at], buf, p))
		train = append(train, slab[at:end:len(slab)])
		at = end
		used++
	}
	return train, used
}

// wrapOverhead is the most that appendFrame adds: header, IPv6 address, data
// header and padding of a Send indication.
const wrapOverhead = stunHeaderSize + 24 + 4 + 3

func (r *Relay) appendFrame(dst, packet []byte, p *Path) []byte {
	if p.channel == 0 {
		return appendSendIndication(dst, p.addr, packet)
	}
	dst = binary.BigEndian.AppendUint16(dst, p.channel)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(packet)))
	return append(dst, packet...)
}

func (r *Relay) write(train [][]byte, p *Path) error {
	if r.stream != nil {
		r.stream.push(train, false)
		return nil // a stream that has ended is told by an Event
	}
	if !r.bind.open.Load() {
		return errNotOpen
	}
	return r.bind.sendTrain(train, &r.inner, p)
}

func (r *Relay) takeSlab() []byte {
	select {
	case slab := <-r.train:
		return slab
	default:
		return make([]byte, trainSize)
	}
}

func (r *Relay) putSlab(slab []byte) {
	select {
	case r.train <- slab:
	default:
	}
}

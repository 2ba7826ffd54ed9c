package server

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/internal/framing"
	"github.com/wattlenet/wattle/relay/internal/batch"
)

// maxBoxes bounds the sockets that one batch leaves from; above it what was
// collected leaves first.
const maxBoxes = 8

// A forwarder carries the data that one reader brings, past pion/turn. It
// collects what has to leave and sends it when flush is called:
//
//	client A ─ChannelData─> reader ─ fromClient ─┬─ another allocation here ─ChannelData─> client B
//	                                             └─ relayed socket ──────────UDP────────> peer
//	peer ─────────UDP─────> reader ─ fromPeer ─────────────────────ChannelData─────────> client A
//
// Between two allocations of this relay only the number in the header changes:
// the packet is neither copied nor does it pass through the relayed sockets. A
// forwarder belongs to one goroutine.
type forwarder struct {
	gate *gate

	at      instant // of this batch
	last    route   // of the last packet from a client
	heard   arrival // of the last packet to a client that no route has
	boxes   []box
	streams []*stream // have been given something
	heads   []byte    // headers of what the boxes hold
	count   tally
}

// A box is what leaves from one socket.
type box struct {
	conn *batch.Conn
	out  *batch.Outbox
}

// A route is where the packets of one channel go.
type route struct {
	from   *allocation
	number uint16

	peer   netip.AddrPort // zero: nowhere
	to     *allocation    // nil: not here
	answer uint16         // the number that to knows from by; 0: none
}

// An arrival is how packets of one sender are handed to a client.
type arrival struct {
	to   *allocation
	from netip.AddrPort

	permitted bool
	number    uint16 // of the channel; 0: none
}

// A tally counts packets until they are added to the counters of the relay.
type tally struct {
	packetsToPeers, bytesToPeers, packetsFromPeers, bytesFromPeers, dropped uint64
}

var outboxes = sync.Pool{New: func() any { return batch.NewOutbox() }}

// headsSize is room for the headers of one batch.
const headsSize = 1024 * framing.ChannelHeader

func newForwarder(g *gate) *forwarder {
	return &forwarder{gate: g, heads: make([]byte, 0, headsSize)}
}

// begin starts a batch: what was looked up for the last one is forgotten.
func (f *forwarder) begin() {
	f.at = now()
	f.last, f.heard = route{}, arrival{}
}

// fromClient forwards ChannelData of the client that holds a, which may be nil.
// The frame is changed in place and must stay as it is until flush.
func (f *forwarder) fromClient(a *allocation, frame []byte) {
	number, length, ok := parseChannelData(frame)
	if !ok || a == nil {
		f.count.dropped++
		return
	}
	if f.last.from != a || f.last.number != number {
		f.last = f.find(a, number)
	}
	r := &f.last
	if !r.peer.IsValid() {
		f.count.dropped++
		return
	}
	if !f.charge(a, length) {
		return
	}
	frame = frame[:framing.ChannelHeader+length]
	switch {
	case r.answer != 0:
		f.switched(length)
		binary.BigEndian.PutUint16(frame, r.answer)
		f.toClient(r.to, nil, frame)
	case r.to != nil:
		f.arrive(r.to, a.relayed, frame[framing.ChannelHeader:])
	default:
		f.toPeer(a, r.peer, frame[framing.ChannelHeader:])
	}
}

// send forwards what a client has sent without a channel (RFC 8656, section 11.2).
func (f *forwarder) send(a *allocation, peer netip.AddrPort, payload []byte) {
	if !f.charge(a, len(payload)) {
		return
	}
	if peer.Addr() != f.gate.public {
		f.toPeer(a, peer, payload)
	} else if to := f.gate.ledger.neighbour(a, peer.Port()); to != nil {
		f.arrive(to, a.relayed, payload)
	} else {
		f.count.dropped++
	}
}

// charge takes bytes from the bandwidth of the peer that holds a, and of its
// account.
func (f *forwarder) charge(a *allocation, bytes int) bool {
	for _, use := range a.uses {
		if !use.meter.spend(bytes, f.at) {
			f.gate.stats.beyond[use.of.bandwidth].Add(1)
			return false
		}
	}
	return true
}

// find looks the channel of a up.
func (f *forwarder) find(a *allocation, number uint16) route {
	r := route{from: a, number: number}
	ch := a.bindings.load().channel(number, f.at)
	if ch == nil || a.ended.Load() {
		return r
	}
	if ch.peer.Addr() != f.gate.public {
		r.peer = ch.peer
		return r
	}
	if r.to = f.gate.ledger.neighbour(a, ch.peer.Port()); r.to == nil {
		return r
	}
	r.peer = ch.peer
	if v := r.to.bindings.load(); v.permits(f.gate.public, f.at) {
		r.answer = v.numberOf(a.relayed, f.at)
	}
	return r
}

// fromPeer forwards a datagram that has arrived at the relayed socket of a.
func (f *forwarder) fromPeer(a *allocation, from netip.AddrPort, payload []byte) {
	f.count.packetsFromPeers++
	f.count.bytesFromPeers += uint64(len(payload))
	if f.charge(a, len(payload)) {
		f.pass(a, from, payload)
	}
}

// arrive hands a packet from one allocation to another, as if it had passed
// through the relayed sockets of both.
func (f *forwarder) arrive(a *allocation, from netip.AddrPort, payload []byte) {
	f.switched(len(payload))
	f.pass(a, from, payload)
}

// pass hands a client what has come for it: as ChannelData when it has bound a
// channel, in a Data indication otherwise, if it has permitted the sender
// (RFC 8656, section 11.3).
func (f *forwarder) pass(a *allocation, from netip.AddrPort, payload []byte) {
	if f.heard.to != a || f.heard.from != from {
		v := a.bindings.load()
		f.heard = arrival{to: a, from: from, permitted: v.permits(from.Addr(), f.at), number: v.numberOf(from, f.at)}
	}
	if !f.heard.permitted {
		f.count.dropped++
		return
	}
	if number := f.heard.number; number != 0 {
		f.toClient(a, f.head(number, len(payload)), payload)
		return
	}
	message, err := dataIndication(from, payload)
	if err != nil {
		f.count.dropped++
		return
	}
	f.toClient(a, nil, message)
}

// switched counts a packet that leaves one allocation and arrives at another.
func (f *forwarder) switched(bytes int) {
	f.count.packetsToPeers++
	f.count.bytesToPeers += uint64(bytes)
	f.count.packetsFromPeers++
	f.count.bytesFromPeers += uint64(bytes)
}

// toPeer sends a datagram from the relayed socket of a.
func (f *forwarder) toPeer(a *allocation, peer netip.AddrPort, payload []byte) {
	f.count.packetsToPeers++
	f.count.bytesToPeers += uint64(len(payload))
	f.box(a.socket.batch).Add(peer, nil, payload)
}

// toClient sends head+body, which are ChannelData or STUN, to the client of a.
func (f *forwarder) toClient(a *allocation, head, body []byte) {
	s := a.client.stream
	if s == nil {
		f.box(a.client.conn).Add(a.tuple.client, head, body)
		return
	}
	f.count.dropped += uint64(s.out.Push(head, body, false))
	if !slices.Contains(f.streams, s) {
		f.streams = append(f.streams, s)
	}
}

// head makes a ChannelData header that lives until flush.
func (f *forwarder) head(number uint16, length int) []byte {
	if len(f.heads)+framing.ChannelHeader > cap(f.heads) {
		f.flush()
	}
	begin := len(f.heads)
	f.heads = binary.BigEndian.AppendUint16(f.heads, number)
	f.heads = binary.BigEndian.AppendUint16(f.heads, uint16(length))
	return f.heads[begin:len(f.heads):len(f.heads)]
}

// box returns the outbox of a socket, with room for one datagram.
func (f *forwarder) box(conn *batch.Conn) *batch.Outbox {
	for _, b := range f.boxes {
		if b.conn == conn {
			if b.out.Full() {
				f.write(b)
			}
			return b.out
		}
	}
	if len(f.boxes) == maxBoxes {
		for _, b := range f.boxes {
			f.write(b)
			outboxes.Put(b.out)
		}
		f.boxes = f.boxes[:0]
	}
	b := box{conn, outboxes.Get().(*batch.Outbox)}
	f.boxes = append(f.boxes, b)
	return b.out
}

// write sends what one box holds. A socket that has closed is an allocation
// that has ended meanwhile.
func (f *forwarder) write(b box) {
	lost, _ := b.conn.Write(b.out)
	f.count.dropped += uint64(lost)
}

// flush sends what was collected; the memory of the packets is free again.
func (f *forwarder) flush() {
	for _, b := range f.boxes {
		f.write(b)
		outboxes.Put(b.out)
	}
	for _, s := range f.streams {
		s.out.Wake()
	}
	clear(f.boxes)
	clear(f.streams)
	f.boxes, f.streams, f.heads = f.boxes[:0], f.streams[:0], f.heads[:0]
	f.gate.stats.add(&f.count)
	f.count = tally{}
}

// parseChannelData reads the header of ChannelData (RFC 8656, section 12.4).
// Over UDP a frame may be padded to four bytes; what is longer is not one frame.
func parseChannelData(frame []byte) (number uint16, length int, ok bool) {
	if len(frame) < framing.ChannelHeader {
		return 0, 0, false
	}
	number = binary.BigEndian.Uint16(frame)
	length = int(binary.BigEndian.Uint16(frame[2:]))
	rest := len(frame) - framing.ChannelHeader - length
	return number, length, number >= firstChannel && number <= lastChannel && rest >= 0 && rest <= 3
}

// dataIndication wraps a packet of a peer that has no channel (RFC 8656,
// section 11.4).
func dataIndication(from netip.AddrPort, payload []byte) ([]byte, error) {
	m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodData, stun.ClassIndication),
		peerAddress(from), stun.RawAttribute{Type: stun.AttrData, Value: payload})
	if err != nil {
		return nil, err
	}
	return m.Raw, nil
}

// A peerAddress is XOR-PEER-ADDRESS (RFC 8656, section 18.3).
type peerAddress netip.AddrPort

func (p peerAddress) AddTo(m *stun.Message) error {
	at := netip.AddrPort(p)
	x := stun.XORMappedAddress{IP: at.Addr().AsSlice(), Port: int(at.Port())}
	return x.AddToAs(m, stun.AttrXORPeerAddress)
}

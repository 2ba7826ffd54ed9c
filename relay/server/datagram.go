package server

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/wattlenet/wattle/relay/internal/batch"
)

// A datagramFront is one UDP socket of the relay, and stands between it and
// pion/turn: data is forwarded here, and pion is shown only the control
// messages that the gate lets pass. Pion reads it from one goroutine, which is
// the one that forwards, and handles each message before it reads the next: so
// data behind a ChannelBind is looked at when the channel is there.
type datagramFront struct {
	*net.UDPConn
	batch *batch.Conn
	gate  *gate
	local netip.AddrPort

	// Owned by the reading goroutine.
	in      *batch.Inbox // nil: nothing is left of the last batch
	next    int          // the message of in that comes next
	forward *forwarder
	from    *allocation // who sent the message at next
	looked  bool        // from is known
	tuple   fiveTuple   // of the message that pion has
	then    pending
}

func newDatagramFront(conn *net.UDPConn, g *gate) (*datagramFront, error) {
	if err := tuneBuffers(conn); err != nil {
		return nil, err
	}
	batched, err := batch.New(conn)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return &datagramFront{UDPConn: conn, batch: batched, gate: g, local: addrPort(conn.LocalAddr()), forward: newForwarder(g)}, nil
}

// ReadFrom returns the next control message that may pass, and forwards what
// comes before it.
func (f *datagramFront) ReadFrom(p []byte) (int, net.Addr, error) {
	f.gate.settle(f.tuple, &f.then)
	for {
		if f.in == nil {
			var err error
			if f.in, err = f.batch.Receive(); err != nil {
				return 0, nil, err
			}
			f.next, f.looked = 0, false
		}
		f.forward.begin()
		message := f.sort()
		f.forward.flush()
		if message == nil {
			f.in.Release()
			f.in = nil
			continue
		}
		return copy(p, message), net.UDPAddrFromAddrPort(f.tuple.client), nil
	}
}

// sort goes on with the batch until it is empty, or a control message is for
// pion.
func (f *datagramFront) sort() []byte {
	for ; f.next < len(f.in.Messages); f.next, f.looked = f.next+1, false {
		m := &f.in.Messages[f.next]
		for len(m.Bytes) > 0 {
			packet := m.Next()
			if isChannelData(packet) {
				f.data(m.From, packet)
			} else if shown := f.control(m.From, packet); shown != nil {
				return shown
			}
		}
	}
	return nil
}

func (f *datagramFront) data(from netip.AddrPort, packet []byte) {
	if !f.looked {
		f.from, f.looked = f.gate.ledger.clients.find(fiveTuple{local: f.local, client: from}), true
	}
	f.forward.fromClient(f.from, packet)
}

// control returns what pion is shown of a message, nil when nothing.
func (f *datagramFront) control(from netip.AddrPort, packet []byte) []byte {
	f.looked = false // it may make an allocation, or end one
	if len(packet) > maxMessage {
		return nil
	}
	f.tuple = fiveTuple{local: f.local, client: from}
	verdict := f.gate.admit(packet, f.tuple)
	if verdict.answer != nil {
		// The client repeats its request when this answer is lost.
		_, _ = f.UDPConn.WriteToUDPAddrPort(verdict.answer, from)
	}
	f.then = verdict.then
	if !verdict.pass {
		return nil
	}
	return verdict.message(packet)
}

// WriteTo sends what pion answers to a client.
func (f *datagramFront) WriteTo(p []byte, addr net.Addr) (int, error) {
	tuple := fiveTuple{local: f.local, client: addrPort(addr)}
	f.gate.observe(p, tuple, client{conn: f.batch}, &f.then)
	return f.UDPConn.WriteTo(p, addr)
}

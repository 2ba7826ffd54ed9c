//go:build !linux

package batch

import (
	"net"
	"net/netip"
)

type (
	inboxSystem  struct{}
	outboxSystem struct{ scratch []byte }
)

func (in *Inbox) prepare() {}

func (out *Outbox) prepare() { out.system.scratch = make([]byte, messageSize) }

// follows never joins: datagrams leave one by one.
func follows(_, _ []byte) bool { return false }

// A Conn is a UDP socket.
type Conn struct{ udp *net.UDPConn }

// New makes conn ready for batches. It stays usable by itself.
func New(conn *net.UDPConn) (*Conn, error) { return &Conn{udp: conn}, nil }

// Receive waits for a datagram and returns it. The caller releases the inbox.
// After the socket has closed it returns net.ErrClosed.
func (c *Conn) Receive() (*Inbox, error) {
	in := inboxes.Get().(*Inbox)
	n, from, err := c.udp.ReadFromUDPAddrPort(in.buffer(0))
	if err != nil {
		in.Release()
		return nil, err
	}
	in.all[0] = Message{From: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), Bytes: in.buffer(0)[:n], Segment: n}
	in.Messages = in.all[:1]
	return in, nil
}

// Write sends what out holds, empties it and returns how many datagrams could
// not be sent. The error is net.ErrClosed when the socket has closed.
func (c *Conn) Write(out *Outbox) (lost int, err error) {
	defer out.reset()
	for i := range out.trains {
		t := &out.trains[i]
		for offset := 0; offset < t.bytes; offset += t.segment {
			if _, err := c.udp.WriteToUDPAddrPort(out.datagram(t, offset, out.system.scratch), t.to); err != nil {
				lost++
			}
		}
	}
	return lost, nil
}

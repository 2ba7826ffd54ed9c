package forward

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleDatagrams ends a pair of addresses that is silent. RFC 4787, section
	// 4.3: no less than 2 min.
	idleDatagrams = 3 * time.Minute

	// largestDatagram is what UDP carries at most (RFC 768).
	largestDatagram = 65535
)

// A conversation is what one source sends and is answered.
type conversation struct {
	connection net.Conn
	heard      atomic.Int64 // nanoseconds since the relay began: last datagram of the source
}

// relay carries the datagrams of a socket, each source over a connection of its
// own, so that answers find back.
func (s *service) relay(ctx context.Context, packets net.PacketConn) {
	begun := time.Now()
	var mu sync.Mutex // guards known
	known := map[string]*conversation{}
	buf := make([]byte, largestDatagram)
	for {
		n, from, err := packets.ReadFrom(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an answer of ours found nobody (ICMP); the socket lives on
		}
		name := from.String()
		mu.Lock()
		c := known[name]
		mu.Unlock()
		if c == nil {
			if c = s.converse(ctx); c == nil {
				continue
			}
			mu.Lock()
			known[name] = c
			mu.Unlock()
			s.running.Go(func() {
				c.answer(packets, from, begun)
				mu.Lock()
				delete(known, name)
				mu.Unlock()
				s.open.drop(c.connection)
			})
		}
		c.heard.Store(int64(time.Since(begun)))
		_, _ = c.connection.Write(buf[:n]) // a datagram may be lost
	}
}

// converse opens the connection of a new source, nil when it cannot.
func (s *service) converse(ctx context.Context) *conversation {
	connection, err := s.dial(ctx)
	if err != nil {
		s.log.Debug("datagram not forwarded", "address", s.plan.listen.String(), "target", s.plan.target, "error", err)
		return nil
	}
	if !s.open.add(connection) {
		return nil
	}
	s.served.Add(1)
	return &conversation{connection: connection}
}

// answer carries the way back until both directions have been silent.
func (c *conversation) answer(packets net.PacketConn, to net.Addr, begun time.Time) {
	buf := make([]byte, largestDatagram)
	for {
		_ = c.connection.SetReadDeadline(time.Now().Add(idleDatagrams)) // fails when closed, as does reading
		n, err := c.connection.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) && time.Since(begun)-time.Duration(c.heard.Load()) < idleDatagrams {
			continue
		}
		if err != nil {
			return
		}
		_, _ = packets.WriteTo(buf[:n], to) // a datagram may be lost
	}
}

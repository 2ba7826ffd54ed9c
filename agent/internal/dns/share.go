package dns

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// A sharing listener has room for a number of connections and takes every new one
// all the same: the oldest of the source that has the most makes room for it, so
// that nobody keeps others out (RFC 7766, section 6.2.2). Who loses a connection
// asks again on another one (section 6.2.4).
type sharing struct {
	net.Listener
	most int

	mu   sync.Mutex // guards open
	open []*sharedConn
}

// A sharedConn is one of the connections of a sharing listener.
type sharedConn struct {
	net.Conn
	of     *sharing
	source netip.Addr
}

func share(l net.Listener, most int) *sharing { return &sharing{Listener: l, most: most} }

// Accept returns the next connection. Its errors are those of the listener below.
func (s *sharing) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return s.admit(conn), nil
}

// admit counts a connection, and closes another one if there are too many.
func (s *sharing) admit(conn net.Conn) *sharedConn {
	shared := &sharedConn{Conn: conn, of: s, source: sourceOf(conn)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= s.most {
		_ = s.dismiss().Conn.Close() // whoever reads from it leaves it
	}
	s.open = append(s.open, shared)
	return shared
}

// dismiss removes the oldest connection of the source that has the most; of
// several sources, that of the one whose connection is the oldest. There is one,
// and the caller holds mu.
func (s *sharing) dismiss() *sharedConn {
	count := map[netip.Addr]int{}
	for _, c := range s.open {
		count[c.source]++
	}
	at := 0
	for i, c := range s.open {
		if count[c.source] > count[s.open[at].source] {
			at = i
		}
	}
	oldest := s.open[at]
	s.open = slices.Delete(s.open, at, at+1)
	return oldest
}

// Close ends the connection, and makes room.
func (c *sharedConn) Close() error {
	c.of.mu.Lock()
	if at := slices.Index(c.of.open, c); at >= 0 {
		c.of.open = slices.Delete(c.of.open, at, at+1)
	}
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// sourceOf is the address at the other end; the zero Addr where there is none.
func sourceOf(conn net.Conn) netip.Addr {
	if addr, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		return addr.Addr().Unmap()
	}
	return netip.Addr{}
}

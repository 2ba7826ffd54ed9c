package server

import (
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/wattlenet/wattle/internal/proxied"
	"github.com/wattlenet/wattle/internal/webstream"
)

const (
	// ALPN is the protocol name of TURN over TLS (RFC 7443, section 4).
	ALPN = "stun.turn"
	// WebSocketPath is where ServeHTTP expects to be asked for.
	WebSocketPath = "/relay"
	// WebSocketProtocol is the subprotocol of the messages: each binary one
	// holds whole frames, as they follow each other on a TCP connection.
	WebSocketProtocol = "turn"
)

// A handover is the listener of connections that others have accepted.
type handover struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr is a name only: who accepts a connection knows its address.
func (h *handover) Addr() net.Addr { return &net.UnixAddr{Name: "handover", Net: "unix"} }

// A lentConn says when it was closed. Its addresses are those of the network, by
// which no two are mistaken for each other; source is whom it counts for, who
// may have come through a proxy.
type lentConn struct {
	net.Conn
	local, remote net.Addr
	source        netip.Addr
	once          sync.Once
	closed        chan struct{}
}

func (c *lentConn) LocalAddr() net.Addr  { return c.local }
func (c *lentConn) RemoteAddr() net.Addr { return c.remote }

// sourceOf returns whom a connection counts for.
func sourceOf(conn net.Conn) netip.Addr {
	if lent, ok := conn.(*lentConn); ok {
		return lent.source
	}
	return addrPort(conn.RemoteAddr()).Addr()
}

func (c *lentConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.closed) })
	return err
}

// ServeStream serves a connection on which a client speaks TURN, such as one of
// TLS with ALPN, until it ends. The relay closes it, at the latest when Run
// returns. Before Run it waits.
func (s *Server) ServeStream(conn net.Conn) {
	s.bring(conn, addrPort(conn.RemoteAddr()).Addr())
}

// EndStreams ends the connections that ServeStream and ServeHTTP have brought
// and takes no further ones. Clients go on over UDP and TCP until Run returns.
func (s *Server) EndStreams() {
	for _, listener := range s.tcp {
		if listener.Listener == net.Listener(s.brought) {
			_ = listener.Close() // closing a handover does not fail
		}
	}
}

func (s *Server) bring(conn net.Conn, source netip.Addr) {
	opened := proxied.Opened(conn)
	lent := &lentConn{Conn: conn, local: opened.LocalAddr(), remote: opened.RemoteAddr(), source: source, closed: make(chan struct{})}
	select {
	case s.brought.conns <- lent:
		<-lent.closed
	case <-s.brought.closed:
		_ = conn.Close() // nothing was promised to the client
	}
}

// ServeHTTP makes a request for a WebSocket a connection of a client. Others
// are refused. Request.RemoteAddr is whom it counts for.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, "the connection has no address", http.StatusInternalServerError)
		return
	}
	conn, err := webstream.Accept(w, r, WebSocketProtocol)
	if err != nil {
		return // it has answered
	}
	s.bring(conn, remote.Addr().Unmap())
}

package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/wattlenet/wattle/internal/proxied"
)

const (
	// handshakePatience bounds a TLS handshake with the first byte after it.
	handshakePatience = 10 * time.Second
	// maxHandshakes bounds those at once and the requests under way, so that
	// strangers cannot take all memory.
	maxHandshakes = 512
)

// A door is a TLS listener for TURN and for HTTP, which brings WebSockets:
//
//	ALPN stun.turn ─────────────────────────────> TURN
//	ALPN http/1.1 ──────────────────────────────> HTTP
//	no ALPN: first byte 0, as of a STUN request ─> TURN, else HTTP
type door struct {
	listener net.Listener
	relay    *Server
	config   *tls.Config
	web      *http.Server
	webConns *handover
	crowd    *crowd // who shakes hands, or speaks HTTP
	guests   sync.WaitGroup

	mu      sync.Mutex // guards waiting, closed
	waiting map[net.Conn]struct{}
	closed  bool
}

func (s *Server) listenTLS(address string, config *tls.Config) error {
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return fmt.Errorf("relay: listening address %q: %w", address, err)
	}
	listener, err := net.ListenTCP("tcp", at)
	if err != nil {
		return listenError("tcp", at, err)
	}
	config = config.Clone()
	config.NextProtos = []string{ALPN, "http/1.1"}
	mux := http.NewServeMux()
	mux.Handle(WebSocketPath, s)
	d := &door{
		listener: s.proxies.Listener(listener), relay: s, config: config, webConns: newHandover(),
		crowd: newCrowd(maxHandshakes, s.proxies), waiting: make(map[net.Conn]struct{}),
	}
	d.web = &http.Server{
		Handler: s.proxies.Handler(mux), ReadHeaderTimeout: handshakePatience, IdleTimeout: handshakePatience, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		ConnState: func(conn net.Conn, state http.ConnState) {
			if state == http.StateHijacked || state == http.StateClosed { // a WebSocket is the stream's from here on
				d.crowd.leave(addrPort(conn.RemoteAddr()).Addr())
			}
		},
	}
	s.doors = append(s.doors, d)
	return nil
}

// TLSAddrs returns the addresses of Config.ListenTLS, in that order.
func (s *Server) TLSAddrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, 0, len(s.doors))
	for _, d := range s.doors {
		addrs = append(addrs, addrPort(d.listener.Addr()))
	}
	return addrs
}

// serve lets clients in until close, and returns when all have left.
func (d *door) serve() {
	d.guests.Go(func() { _ = d.web.Serve(d.webConns) }) // ends with http.ErrServerClosed
	for {
		conn, err := d.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			d.guests.Wait()
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // as in streamListener.Accept
			continue
		}
		if !d.enter(opener(conn)) {
			_ = conn.Close() // too many wait already
			continue
		}
		d.guests.Go(func() { d.welcome(conn) })
	}
}

func (d *door) enter(source netip.Addr) bool {
	if d.crowd.enter(source) {
		return true
	}
	d.relay.stats.refusedStrangers.Add(1)
	return false
}

// opener is the address at the other end of the network: a client's, or that of
// a proxy.
func opener(conn net.Conn) netip.Addr {
	return addrPort(proxied.Opened(conn).RemoteAddr()).Addr()
}

// introduce waits until a proxy has told whose connection it brings. The client
// takes the proxy's place in the crowd, if there is room.
func (d *door) introduce(raw net.Conn) (source netip.Addr, ok bool) {
	by := opener(raw)
	if !d.note(raw) {
		d.crowd.leave(by)
		return source, false
	}
	defer d.forget(raw)
	if source = addrPort(raw.RemoteAddr()).Addr(); source == by {
		return source, true
	}
	d.crowd.leave(by)
	return source, d.enter(source)
}

// welcome shakes hands with a client and hands it to whom it wants to speak to.
func (d *door) welcome(raw net.Conn) {
	source, ok := d.introduce(raw)
	if !ok {
		_ = raw.Close() // nothing was promised
		return
	}
	conn := tls.Server(raw, d.config)
	speaks, err := d.meet(raw, conn)
	switch {
	case err != nil:
		d.crowd.leave(source)
		_ = raw.Close() // a stranger's broken handshake
	case speaks.turn:
		d.crowd.leave(source)
		d.relay.ServeStream(speaks.conn)
	default:
		select {
		case d.webConns.conns <- speaks.conn: // web tells when it leaves
		case <-d.webConns.closed:
			d.crowd.leave(source)
			_ = raw.Close() // nothing was promised
		}
	}
}

// A greeting is what is known after the first byte.
type greeting struct {
	conn net.Conn
	turn bool
}

func (d *door) meet(raw net.Conn, conn *tls.Conn) (greeting, error) {
	if !d.note(raw) {
		return greeting{}, net.ErrClosed
	}
	defer d.forget(raw)
	if err := conn.SetDeadline(time.Now().Add(handshakePatience)); err != nil {
		return greeting{}, err
	}
	if err := conn.HandshakeContext(context.Background()); err != nil { // bounded by the deadline and by close
		return greeting{}, err
	}
	g := greeting{conn: conn}
	switch conn.ConnectionState().NegotiatedProtocol {
	case ALPN:
		g.turn = true
	case "":
		reader := bufio.NewReaderSize(conn, strangerBuffer)
		first, err := reader.Peek(1)
		if err != nil {
			return greeting{}, err
		}
		g = greeting{conn: &peekedConn{Conn: conn, reader: reader}, turn: first[0] == 0}
	}
	return g, conn.SetDeadline(time.Time{})
}

// A peekedConn reads what was looked at once more.
type peekedConn struct {
	net.Conn
	reader *bufio.Reader
}

// NetConn returns the connection below.
func (c *peekedConn) NetConn() net.Conn { return c.Conn }

func (c *peekedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

func (d *door) note(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.waiting[conn] = struct{}{}
	return true
}

func (d *door) forget(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.waiting, conn)
}

// close lets nobody in any more and ends the handshakes and requests under
// way. Clients that speak TURN stay until their listener closes.
func (d *door) close() error {
	err := ignoreClosed(d.listener.Close())
	d.mu.Lock()
	d.closed = true
	for conn := range d.waiting {
		_ = conn.Close() // its handshake ends with an error that nobody reads
	}
	d.mu.Unlock()
	return errors.Join(err, d.webConns.Close(), ignoreClosed(d.web.Close()))
}

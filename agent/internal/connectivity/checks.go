package connectivity

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pion/ice/v3"
	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

const (
	checkQueue    = 64               // messages waiting for one ICE agent
	checkMemory   = 10 * time.Second // how long a request waits for its response
	sweepRequests = 2048             // requests after which old ones are looked for
)

// checks lets ICE agents share the tunnel's socket. Each attempt has its own
// agent and its own addresses; requests find it by its username fragment,
// responses by the transaction they answer.
type checks struct {
	bind *tunnel.Bind

	mu       sync.Mutex // guards all below
	attempts map[string]*checkMux
	requests map[[stun.TransactionIDSize]byte]sentCheck
}

type sentCheck struct {
	conn *checkConn
	at   time.Time
}

func newChecks(bind *tunnel.Bind) *checks {
	return &checks{
		bind:     bind,
		attempts: make(map[string]*checkMux),
		requests: make(map[[stun.TransactionIDSize]byte]sentCheck),
	}
}

// deliver hands a message to the agent it is for, or drops it.
func (c *checks) deliver(m *stun.Message, raw tunnel.STUNMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var to *checkConn
	if m.Type.Class == stun.ClassRequest {
		to = c.forRequest(m, raw)
	} else if sent, ok := c.requests[m.TransactionID]; ok {
		delete(c.requests, m.TransactionID)
		to = sent.conn
	}
	if to == nil {
		return
	}
	select {
	case to.incoming <- raw:
	default: // ICE repeats
	}
}

// forRequest finds the agent by the first half of the username (RFC 8445,
// section 7.2.2), and its candidate by the address the request came to.
func (c *checks) forRequest(m *stun.Message, raw tunnel.STUNMessage) *checkConn {
	var username stun.Username
	if username.GetFrom(m) != nil {
		return nil
	}
	for i, b := range username {
		if b != ':' {
			continue
		}
		mux := c.attempts[string(username[:i])]
		if mux == nil {
			return nil
		}
		return mux.connFor(raw.Local, raw.Addr.Addr().Is4())
	}
	return nil
}

// sent notes which candidate has asked. The caller must not hold mu.
func (c *checks) sent(id [stun.TransactionIDSize]byte, conn *checkConn) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[id] = sentCheck{conn: conn, at: now}
	if len(c.requests)%sweepRequests == 0 {
		for id, check := range c.requests {
			if now.Sub(check.at) > checkMemory {
				delete(c.requests, id)
			}
		}
	}
}

// A checkMux is what one ICE agent takes for its sockets.
type checkMux struct {
	checks *checks
	ufrag  string
	addrs  []net.Addr
	conns  map[netip.AddrPort]*checkConn // guarded by checks.mu
}

var _ ice.UDPMux = (*checkMux)(nil)

// newMux registers an agent that listens at addrs.
func (c *checks) newMux(ufrag string, addrs []netip.AddrPort) *checkMux {
	mux := &checkMux{checks: c, ufrag: ufrag, conns: make(map[netip.AddrPort]*checkConn)}
	for _, addr := range addrs {
		mux.addrs = append(mux.addrs, net.UDPAddrFromAddrPort(addr))
	}
	c.mu.Lock()
	c.attempts[ufrag] = mux
	c.mu.Unlock()
	return mux
}

// GetListenAddresses implements ice.UDPMux.
func (m *checkMux) GetListenAddresses() []net.Addr { return m.addrs }

// GetConn implements ice.UDPMux: one connection per local address.
func (m *checkMux) GetConn(_ string, addr net.Addr) (net.PacketConn, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return nil, net.InvalidAddrError("want a UDP address")
	}
	key := udp.AddrPort()
	key = netip.AddrPortFrom(key.Addr().Unmap(), key.Port())
	m.checks.mu.Lock()
	defer m.checks.mu.Unlock()
	if m.checks.attempts[m.ufrag] != m {
		return nil, net.ErrClosed
	}
	if conn := m.conns[key]; conn != nil {
		return conn, nil
	}
	conn := &checkConn{
		checks: m.checks, local: key,
		incoming: make(chan tunnel.STUNMessage, checkQueue), closed: make(chan struct{}),
	}
	m.conns[key] = conn
	return conn, nil
}

// RemoveConnByUfrag implements ice.UDPMux. An agent calls it before it begins, too.
func (m *checkMux) RemoveConnByUfrag(string) {
	m.checks.mu.Lock()
	defer m.checks.mu.Unlock()
	for _, conn := range m.conns {
		conn.end()
	}
	clear(m.conns)
}

// Close implements ice.UDPMux. It does not touch the socket.
func (m *checkMux) Close() error {
	m.RemoveConnByUfrag(m.ufrag)
	m.checks.mu.Lock()
	defer m.checks.mu.Unlock()
	if m.checks.attempts[m.ufrag] == m {
		delete(m.checks.attempts, m.ufrag)
	}
	return nil
}

// connFor is called with checks.mu held.
func (m *checkMux) connFor(local netip.Addr, four bool) *checkConn {
	var fallback *checkConn
	for key, conn := range m.conns {
		if key.Addr() == local.Unmap() {
			return conn
		}
		if key.Addr().Is4() == four {
			fallback = conn
		}
	}
	return fallback
}

// A checkConn is one local candidate's share of the socket.
type checkConn struct {
	checks   *checks
	local    netip.AddrPort
	incoming chan tunnel.STUNMessage
	once     sync.Once
	closed   chan struct{}
}

func (c *checkConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case m := <-c.incoming:
		return copy(b, m.Payload), net.UDPAddrFromAddrPort(m.Addr), nil
	case <-c.closed:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *checkConn) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("want a UDP address")
	}
	if !stun.IsMessage(b) {
		return 0, net.InvalidAddrError("only checks pass here, never data")
	}
	if isRequest(b) {
		c.checks.sent([stun.TransactionIDSize]byte(b[8:20]), c)
	}
	if err := c.checks.bind.WriteSTUN(b, udp.AddrPort()); err != nil {
		return 0, err
	}
	return len(b), nil
}

// isRequest looks at the two class bits (RFC 8489, section 5).
func isRequest(b []byte) bool { return b[0]&0x01 == 0 && b[1]&0x10 == 0 }

func (c *checkConn) Close() error { c.end(); return nil }
func (c *checkConn) end()         { c.once.Do(func() { close(c.closed) }) }

func (c *checkConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.local) }

// SetDeadline is how an ICE agent interrupts its reader before it closes.
func (c *checkConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *checkConn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		c.end()
	}
	return nil
}

func (c *checkConn) SetWriteDeadline(time.Time) error { return nil }

package dns

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// from is a connection whose other end is an address, and which tells whether it
// is closed.
type from struct {
	net.Conn
	addr   netip.AddrPort
	closed bool
}

func (c *from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.addr) }
func (c *from) Close() error         { c.closed = true; return nil }

// TestWhoHasTheMostConnectionsMakesRoom: a source that opens connections without
// an end takes none from others, and one that comes anew is always let in.
func TestWhoHasTheMostConnectionsMakesRoom(t *testing.T) {
	s := share(nil, 8)
	admit := func(addr string) (*from, *sharedConn) {
		c := &from{addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 1000)}
		return c, s.admit(c)
	}
	quiet, _ := admit("100.64.0.2")
	var greedy []*from
	for range 50 {
		c, _ := admit("100.64.0.3")
		greedy = append(greedy, c)
	}
	late, lateConn := admit("::ffff:100.64.0.4")
	if quiet.closed || late.closed || lateConn.source.String() != "100.64.0.4" {
		t.Errorf("who has one connection has lost it (%t, %t); source %s", quiet.closed, late.closed, lateConn.source)
	}
	open := slices.DeleteFunc(slices.Clone(greedy), func(c *from) bool { return c.closed })
	if len(open) != 6 || open[0] != greedy[44] {
		t.Errorf("the greedy source has %d connections, want its 6 newest", len(open))
	}
	// Where nobody has more than another, the oldest goes.
	s = share(nil, 2)
	first, firstConn := admit("100.64.0.2")
	second, _ := admit("100.64.0.3")
	if _, _ = admit("100.64.0.4"); !first.closed || second.closed {
		t.Error("the oldest connection stays")
	}
	// Its end makes no room a second time.
	if err := firstConn.Close(); err != nil || len(s.open) != 2 {
		t.Errorf("%d connections, %v", len(s.open), err)
	}
}

// TestFullListenerAnswers: idle connections in any number keep no question out.
func TestFullListenerAnswers(t *testing.T) {
	network := newLoopback()
	r, err := New(Options{Logger: slog.New(slog.DiscardHandler), Network: network})
	if err != nil {
		t.Fatal(err)
	}
	config := home
	config.Addresses = []netip.Addr{netip.MustParseAddr("100.64.0.1")}
	if err := r.Set(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	at := network.streams[netip.MustParseAddrPort("100.64.0.1:53")]
	for range 2 * maxConns {
		idle, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = idle.Close() }()
	}
	answer, _, err := (&dns.Client{Net: "tcp"}).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("web-1.mesh.example.", dns.TypeA), at)
	if err != nil || len(answer.Answer) != 1 {
		t.Errorf("%v, %v", answer, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// A perishing network remembers its newest sockets, to close them as a system does.
type perishing struct {
	*loopback
	udp, tcp io.Closer
}

func (p *perishing) ListenPacket(ctx context.Context, addr netip.AddrPort) (net.PacketConn, error) {
	c, err := p.loopback.ListenPacket(ctx, addr)
	p.udp = c
	return c, err
}

func (p *perishing) Listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	l, err := p.loopback.Listen(ctx, addr)
	p.tcp = l
	return l, err
}

func (p *perishing) end(t *testing.T, which string) {
	t.Helper()
	if err := map[string]io.Closer{"udp": p.udp, "tcp": p.tcp}[which].Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLostSocketIsNoticedAndOpenedAgain(t *testing.T) {
	for _, which := range []string{"udp", "tcp"} {
		t.Run(which, func(t *testing.T) {
			network := &perishing{loopback: newLoopback()}
			lost := make(chan struct{}, 10)
			r, err := New(Options{Logger: slog.New(slog.DiscardHandler), Network: network, Lost: func() { lost <- struct{}{} }})
			if err != nil {
				t.Fatal(err)
			}
			config := home
			config.Addresses = []netip.Addr{netip.MustParseAddr("100.64.0.1")}
			if err := r.Set(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			network.end(t, which)
			<-lost
			if err := r.Set(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			for proto, at := range map[string]string{"udp": network.packets[netip.MustParseAddrPort("100.64.0.1:53")], "tcp": network.streams[netip.MustParseAddrPort("100.64.0.1:53")]} {
				answer, _, err := (&dns.Client{Net: proto}).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("web-1.mesh.example.", dns.TypeA), at)
				if err != nil || len(answer.Answer) != 1 {
					t.Errorf("%s: %v, %v", proto, answer, err)
				}
			}
			// An end in order is no loss.
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if len(lost) > 0 {
				t.Errorf("%d more losses", len(lost))
			}
		})
	}
}

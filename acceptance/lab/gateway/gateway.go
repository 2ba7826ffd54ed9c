// Package gateway is a home router that forwards a port when a machine asks for it.
//
// It speaks PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP, each as far as the
// mapping of UDP ports goes; what a mapping does is left to its Forward function.
package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Config is what a Gateway needs. A socket that is nil is a protocol that it
// does not speak.
type Config struct {
	External netip.Addr // its own address on the outside; required

	// Control is the socket of port 5351.
	Control net.PacketConn
	// PCP is false for a gateway that knows NAT-PMP only.
	PCP bool

	// Discover is a socket of port 1900, and Web where it sends who asks.
	Discover net.PacketConn
	Web      net.Listener
	// Permanent refuses leases that end, as some gateways do.
	Permanent bool

	// Forward leads a port of the outside to a machine, or with the zero
	// AddrPort nowhere any more. Required.
	Forward func(external uint16, to netip.AddrPort) error
}

// A Gateway remembers what it has mapped.
type Gateway struct {
	config  Config
	started time.Time

	mu       sync.Mutex // guards mappings
	mappings map[uint16]mapping
}

type mapping struct {
	to    netip.AddrPort
	owner string // of PCP: the nonce
}

// New makes a gateway without mappings.
func New(config Config) *Gateway {
	return &Gateway{config: config, started: time.Now(), mappings: make(map[uint16]mapping)}
}

// Mappings returns the ports that lead to a machine.
func (g *Gateway) Mappings() map[uint16]netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make(map[uint16]netip.AddrPort, len(g.mappings))
	for external, m := range g.mappings {
		list[external] = m.to
	}
	return list
}

// Run answers until ctx ends and closes the sockets.
func (g *Gateway) Run(ctx context.Context) error {
	var running sync.WaitGroup
	stop := context.AfterFunc(ctx, g.close)
	defer stop()
	if g.config.Control != nil {
		running.Go(func() { serve(g.config.Control, g.control) })
	}
	if g.config.Discover != nil {
		running.Go(func() { serve(g.config.Discover, g.discover) })
	}
	if g.config.Web != nil {
		web := &http.Server{Handler: g.web(), ReadHeaderTimeout: time.Second}
		running.Go(func() { _ = web.Serve(g.config.Web) }) // ends when the listener does
	}
	<-ctx.Done()
	running.Wait()
	return nil
}

func (g *Gateway) close() {
	for _, conn := range []net.PacketConn{g.config.Control, g.config.Discover} {
		if conn != nil {
			_ = conn.Close() // nothing to lose
		}
	}
	if g.config.Web != nil {
		_ = g.config.Web.Close()
	}
}

// serve answers datagrams until the socket is closed.
func serve(conn net.PacketConn, answer func(request []byte, from netip.AddrPort) []byte) {
	buffer := make([]byte, 2048)
	for {
		n, addr, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		from, err := netip.ParseAddrPort(addr.String())
		if err != nil {
			continue
		}
		if b := answer(buffer[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())); b != nil {
			_, _ = conn.WriteTo(b, addr) // who asks repeats
		}
	}
}

var errTaken = errors.New("the port leads to another machine")

// forward maps external to a machine's port. With free another port is taken
// when it is in use.
func (g *Gateway) forward(external uint16, to netip.AddrPort, owner string, free bool) (uint16, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for port, m := range g.mappings {
		if m.to == to && m.owner == owner {
			return port, nil
		}
	}
	for ; ; external++ {
		if _, taken := g.mappings[external]; !taken && external != 0 {
			break
		}
		if !free {
			return 0, errTaken
		}
	}
	if err := g.config.Forward(external, to); err != nil {
		return 0, err
	}
	g.mappings[external] = mapping{to, owner}
	return external, nil
}

// withdraw ends the mappings that match.
func (g *Gateway) withdraw(match func(external uint16, to netip.AddrPort, owner string) bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for external, m := range g.mappings {
		if match(external, m.to, m.owner) {
			if err := g.config.Forward(external, netip.AddrPort{}); err != nil {
				return err
			}
			delete(g.mappings, external)
		}
	}
	return nil
}

// epoch is the number of seconds since the mappings began (RFC 6887, section 8.5).
func (g *Gateway) epoch() uint32 { return uint32(time.Since(g.started) / time.Second) }

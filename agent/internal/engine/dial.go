package engine

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	wire "github.com/miekg/dns"

	"github.com/wattlenet/wattle/agent/internal/forward"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
	"github.com/wattlenet/wattle/internal/verdict"
)

var _ forward.Overlay = (*link)(nil)

// Dial connects to host:port over the overlay, as the resolver of this machine
// knows the name. Network is tcp or udp. What no rule permits is
// forward.ErrDenied, at once.
func (e *Engine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	running, err := e.running()
	if err != nil {
		return nil, err
	}
	return running.Dial(ctx, network, address)
}

// Listen accepts TCP connections at an overlay address of this machine.
func (e *Engine) Listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	running, err := e.running()
	if err != nil {
		return nil, err
	}
	return running.Listen(ctx, at)
}

// ListenPacket receives UDP at an overlay address of this machine.
func (e *Engine) ListenPacket(ctx context.Context, at netip.AddrPort) (net.PacketConn, error) {
	running, err := e.running()
	if err != nil {
		return nil, err
	}
	return running.ListenPacket(ctx, at)
}

// running returns the link, or says that there is none.
func (e *Engine) running() (*link, error) {
	_, running, notice := e.now()
	if running == nil {
		return nil, local.Errorf(program.ExitNotEnrolled, "%s", cmp.Or(notice, "this machine is not connected; run `wattle up`"))
	}
	return running, nil
}

// Dial connects to host:port over the overlay.
func (l *link) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := l.destination(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s over the overlay: %w", address, err)
	}
	return l.machine.Network.Dial(ctx, network, to)
}

// Listen accepts TCP connections at an overlay address of this machine.
func (l *link) Listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	return l.machine.Network.Listen(ctx, at)
}

// ListenPacket receives UDP at an overlay address of this machine.
func (l *link) ListenPacket(ctx context.Context, at netip.AddrPort) (net.PacketConn, error) {
	return l.machine.Network.ListenPacket(ctx, at)
}

// destination is the address of the network that a text stands for, if a
// connection there may begin.
func (l *link) destination(ctx context.Context, network, address string) (netip.AddrPort, error) {
	protocol := uint8(verdict.NumberTCP)
	switch network {
	case "tcp":
	case "udp":
		protocol = verdict.NumberUDP
	default:
		return netip.AddrPort{}, fmt.Errorf("the network %q is unknown; use tcp or udp", network)
	}
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not a port", number)
	}
	addr, err := l.address(ctx, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if !l.leadsTo(addr) {
		return netip.AddrPort{}, forward.ErrElsewhere
	}
	if !l.mayReach(addr, protocol, uint16(port)) {
		return netip.AddrPort{}, forward.ErrDenied
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// address asks the resolver of this machine: peers first, then its zones.
func (l *link) address(ctx context.Context, host string) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap(), nil
	}
	if known, ok := l.machine.Resolver.Lookup(host); ok {
		if known.IPv4.IsValid() {
			return known.IPv4, nil
		}
		return known.IPv6, nil
	}
	for _, kind := range []uint16{wire.TypeA, wire.TypeAAAA} {
		answer := l.machine.Resolver.Answer(ctx, new(wire.Msg).SetQuestion(wire.Fqdn(host), kind))
		for _, record := range answer.Answer {
			switch r := record.(type) {
			case *wire.A:
				if addr, ok := netip.AddrFromSlice(r.A.To4()); ok {
					return addr, nil
				}
			case *wire.AAAA:
				if addr, ok := netip.AddrFromSlice(r.AAAA); ok {
					return addr, nil
				}
			}
		}
	}
	return netip.Addr{}, fmt.Errorf("%q: %w; `wattle status` lists the peers", host, forward.ErrNoName)
}

// leadsTo reports whether the tunnel leads to an address: this machine's own,
// a peer's, or one that a peer carries traffic to.
func (l *link) leadsTo(addr netip.Addr) bool {
	_, wanted, _, _ := l.snapshot()
	if wanted == nil {
		return false
	}
	return wanted.crowd.owners.Has(addr) ||
		slices.ContainsFunc(wanted.routing.Destinations, func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
}

// mayReach asks the rules between peers; about other addresses the packet
// filters decide.
func (l *link) mayReach(addr netip.Addr, protocol uint8, port uint16) bool {
	_, wanted, applied, _ := l.snapshot()
	p, other := wanted.crowd.withAddress(addr)
	if !other {
		return true
	}
	packet := verdict.Packet{Source: wanted.self.view.N, Destination: p.entry.N, Protocol: protocol, Port: port}
	return applied.Verdict(l.wall()).Evaluate(packet).Allowed
}

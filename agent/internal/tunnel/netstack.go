package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gvisor "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	stackNIC   = 1
	stackQueue = 1024 // packets on their way to the device
	stackBatch = 128  // packets per read, as many as the sockets take
)

// ErrNoStack says that the overlay is reached through the host's own network
// stack: use package net.
var ErrNoStack = errors.New("the tunnel is an interface of this host: use the host's network")

// A stack is a network stack inside the process, seen by the device as its
// interface. Addresses may change while it runs.
type stack struct {
	net    *gvisor.Stack
	link   *channel.Endpoint
	mtu    int
	events chan tun.Event
	ctx    context.Context //nolint:containedctx // ends reads; a tun.Device has no context of its own
	cancel context.CancelFunc

	mu        sync.Mutex // guards addresses
	addresses []netip.Prefix
	closing   sync.Once
}

var _ tun.Device = (*stack)(nil)

func newStack(mtu int) (*stack, error) {
	s := &stack{
		net: gvisor.New(gvisor.Options{
			NetworkProtocols:   []gvisor.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
			TransportProtocols: []gvisor.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
			HandleLocal:        true,
		}),
		link:   channel.New(stackQueue, uint32(mtu), ""),
		mtu:    mtu,
		events: make(chan tun.Event, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	sack := tcpip.TCPSACKEnabled(true) // RFC 2018; off by default
	if err := s.net.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return nil, fmt.Errorf("netstack: selective acknowledgements: %v", err)
	}
	if err := s.net.CreateNIC(stackNIC, s.link); err != nil {
		return nil, fmt.Errorf("netstack: interface: %v", err)
	}
	s.net.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: stackNIC},
		{Destination: header.IPv6EmptySubnet, NIC: stackNIC},
	})
	s.events <- tun.EventUp
	return s, nil
}

// setAddresses adds what is missing and removes what is too much; connections
// on an address that stays are not touched.
func (s *stack) setAddresses(want []netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[netip.Addr]bool, len(want))
	for _, prefix := range want {
		next[prefix.Addr()] = true
	}
	have := make(map[netip.Addr]bool, len(s.addresses))
	for _, prefix := range s.addresses {
		addr := prefix.Addr()
		have[addr] = true
		if !next[addr] {
			if err := s.net.RemoveAddress(stackNIC, tcpip.AddrFromSlice(addr.AsSlice())); err != nil {
				return fmt.Errorf("netstack: remove address %s: %v", addr, err)
			}
		}
	}
	for addr := range next {
		if have[addr] {
			continue
		}
		_, protocol := fullAddress(netip.AddrPortFrom(addr, 0))
		err := s.net.AddProtocolAddress(stackNIC, tcpip.ProtocolAddress{
			Protocol:          protocol,
			AddressWithPrefix: tcpip.AddrFromSlice(addr.AsSlice()).WithPrefix(),
		}, gvisor.AddressProperties{})
		if err != nil {
			return fmt.Errorf("netstack: add address %s: %v", addr, err)
		}
	}
	s.addresses = want
	return nil
}

func (s *stack) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	packet := s.link.ReadContext(s.ctx)
	if packet == nil {
		return 0, os.ErrClosed
	}
	n := 0
	for packet != nil {
		view := packet.ToView()
		packet.DecRef()
		sizes[n] = copy(bufs[n][offset:], view.AsSlice())
		view.Release()
		if n++; n == len(bufs) {
			break
		}
		packet = s.link.Read()
	}
	return n, nil
}

func (s *stack) Write(bufs [][]byte, offset int) (int, error) {
	for _, buf := range bufs {
		packet := buf[offset:]
		if len(packet) == 0 {
			continue
		}
		protocol := header.IPv4ProtocolNumber
		if packet[0]>>4 == 6 {
			protocol = header.IPv6ProtocolNumber
		}
		held := gvisor.NewPacketBuffer(gvisor.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
		s.link.InjectInbound(protocol, held)
		held.DecRef()
	}
	return len(bufs), nil
}

func (s *stack) File() *os.File           { return nil }
func (s *stack) MTU() (int, error)        { return s.mtu, nil }
func (s *stack) Name() (string, error)    { return "netstack", nil }
func (s *stack) Events() <-chan tun.Event { return s.events }
func (s *stack) BatchSize() int           { return stackBatch }

func (s *stack) Close() error {
	s.closing.Do(func() {
		s.cancel()
		s.net.RemoveNIC(stackNIC)
		s.net.Close()
		s.link.Close()
		close(s.events)
	})
	return nil
}

func fullAddress(addr netip.AddrPort) (tcpip.FullAddress, tcpip.NetworkProtocolNumber) {
	protocol := header.IPv4ProtocolNumber
	if addr.Addr().Is6() {
		protocol = header.IPv6ProtocolNumber
	}
	full := tcpip.FullAddress{NIC: stackNIC, Port: addr.Port()}
	if addr.Addr().IsValid() && !addr.Addr().IsUnspecified() {
		full.Addr = tcpip.AddrFromSlice(addr.Addr().AsSlice())
	}
	return full, protocol
}

// Dial opens a TCP connection to an overlay address through the device's own
// stack. In ModeUserspace it returns ErrNoStack.
func (d *Device) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if d.stack == nil {
		return nil, ErrNoStack
	}
	full, protocol := fullAddress(to)
	connection, err := gonet.DialContextTCP(ctx, d.stack.net, full, protocol)
	if err != nil {
		return nil, fmt.Errorf("connect to %s over the overlay: %w", to, err)
	}
	return connection, nil
}

// DialUDP opens a UDP socket whose other end is an overlay address. In
// ModeUserspace it returns ErrNoStack.
func (d *Device) DialUDP(to netip.AddrPort) (net.Conn, error) {
	if d.stack == nil {
		return nil, ErrNoStack
	}
	full, protocol := fullAddress(to)
	connection, err := gonet.DialUDP(d.stack.net, nil, &full, protocol)
	if err != nil {
		return nil, fmt.Errorf("connect to %s/udp over the overlay: %w", to, err)
	}
	return connection, nil
}

// Listen accepts TCP connections at an overlay address of this machine; port 0
// lets the stack choose. In ModeUserspace it returns ErrNoStack.
func (d *Device) Listen(at netip.AddrPort) (net.Listener, error) {
	if d.stack == nil {
		return nil, ErrNoStack
	}
	full, protocol := fullAddress(at)
	listener, err := gonet.ListenTCP(d.stack.net, full, protocol)
	if err != nil {
		return nil, fmt.Errorf("listen on %s of the overlay: %w", at, err)
	}
	return listener, nil
}

// ListenPacket receives UDP at an overlay address of this machine. In
// ModeUserspace it returns ErrNoStack.
func (d *Device) ListenPacket(at netip.AddrPort) (net.PacketConn, error) {
	if d.stack == nil {
		return nil, ErrNoStack
	}
	full, protocol := fullAddress(at)
	connection, err := gonet.DialUDP(d.stack.net, &full, nil, protocol)
	if err != nil {
		return nil, fmt.Errorf("listen on %s/udp of the overlay: %w", at, err)
	}
	return connection, nil
}

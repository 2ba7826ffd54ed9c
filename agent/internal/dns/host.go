package dns

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// HostNetwork opens the sockets of the machine itself.
type HostNetwork struct {
	// Control is called with each socket that Dial makes, before it connects; nil:
	// nothing is.
	Control func(network, address string, c syscall.RawConn) error
}

// Dial opens a connection.
func (h HostNetwork) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{Control: h.Control}
	return dialer.DialContext(ctx, network, to.String())
}

// ListenPacket opens a UDP socket.
func (HostNetwork) ListenPacket(ctx context.Context, addr netip.AddrPort) (net.PacketConn, error) {
	var config net.ListenConfig
	return config.ListenPacket(ctx, "udp", addr.String())
}

// Listen opens a TCP listener.
func (HostNetwork) Listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", addr.String())
}

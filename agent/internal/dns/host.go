package dns

import (
	"context"
	"net"
	"net/netip"
)

// HostNetwork opens the sockets of the machine itself.
type HostNetwork struct{}

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

package portmap

import (
	"fmt"
	"net"
	"net/netip"
)

// towards completes a Gateway with the address that this machine has on its
// network. Connecting a UDP socket sends nothing.
func towards(gateway netip.Addr) (Gateway, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(gateway, controlPort)))
	if err != nil {
		return Gateway{}, fmt.Errorf("way to the gateway %s: %w", gateway, err)
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return Gateway{}, err
	}
	return Gateway{Addr: gateway, Local: local.Addr().Unmap()}, nil
}

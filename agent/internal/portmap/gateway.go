package portmap

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/wattlenet/wattle/agent/internal/mark"
)

// towards completes a Gateway with the address that this machine has on its
// network. Connecting a UDP socket sends nothing.
func towards(gateway netip.Addr) (Gateway, error) {
	dialer := net.Dialer{Control: mark.Socket}
	conn, err := dialer.Dial("udp4", netip.AddrPortFrom(gateway, controlPort).String())
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

package route

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// inbound lists the addresses of the host at which others come in by another
// interface than the tunnel, if they shall be answered there.
func (k *Kernel) inbound(c Config, family, tunnel int) ([]netip.Addr, error) {
	if !c.Inbound {
		return nil, nil
	}
	list, err := k.handle.AddrList(nil, family)
	if err != nil {
		return nil, fmt.Errorf("read the addresses of the host: %w", err)
	}
	var found []netip.Addr
	for _, a := range list {
		addr, ok := netip.AddrFromSlice(a.IP)
		if ok && a.LinkIndex != tunnel && a.Scope == unix.RT_SCOPE_UNIVERSE {
			found = append(found, addr.Unmap())
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return slices.Compact(found), nil
}

// firstOutgoing is the lowest port that the kernel gives outgoing connections
// (ip_local_port_range in Documentation/networking/ip-sysctl.rst of Linux); what
// is answered from below is a service.
func firstOutgoing() uint16 {
	const usual = 32768
	text, err := readSetting("ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	low, _, _ := strings.Cut(text, "\t")
	first, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		return usual
	}
	return max(uint16(first), 2)
}

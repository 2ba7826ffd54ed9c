package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
)

// applyAddresses gives the interface exactly these addresses and brings it up.
// The kernel adds the route of each network prefix with its address and
// removes it with the address.
func applyAddresses(name string, want []netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	have, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", name, err)
	}
	missing := make(map[netip.Prefix]bool, len(want))
	for _, prefix := range want {
		missing[prefix] = true
	}
	for _, address := range have {
		prefix, ok := prefixOf(address.IPNet)
		if !ok || prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		if missing[prefix] {
			delete(missing, prefix)
			continue
		}
		if err := netlink.AddrDel(link, &address); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s from %s: %w", prefix, name, err)
		}
	}
	for _, prefix := range want {
		if !missing[prefix] {
			continue
		}
		if err := netlink.AddrAdd(link, netlinkAddr(prefix)); err != nil && !errors.Is(err, syscall.EEXIST) {
			return fmt.Errorf("add address %s to %s: %w", prefix, name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

func netlinkAddr(prefix netip.Prefix) *netlink.Addr {
	address := &netlink.Addr{IPNet: &net.IPNet{
		IP:   prefix.Addr().AsSlice(),
		Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}}
	if prefix.Addr().Is6() {
		// Nobody else on a tunnel could hold the address; without this the
		// first packets wait for duplicate address detection.
		address.Flags = syscall.IFA_F_NODAD
	}
	return address
}

func prefixOf(network *net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(network.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	bits, _ := network.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), true
}

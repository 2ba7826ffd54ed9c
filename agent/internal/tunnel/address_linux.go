package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/tun"
)

// netlinkAddressing speaks to the kernel by rtnetlink. The kernel adds the
// route of each network prefix with its address and removes it with the address.
type netlinkAddressing struct{ name string }

func newAddressing(name string, _ tun.Device, _ int) (addressing, error) {
	return netlinkAddressing{name}, nil
}

func (n netlinkAddressing) Addresses() ([]netip.Prefix, error) { return addressesOf(n.name) }

func (n netlinkAddressing) Add(_ context.Context, address netip.Prefix) error {
	link, err := n.link()
	if err != nil {
		return err
	}
	err = netlink.AddrAdd(link, netlinkAddr(address))
	switch {
	case err == nil || errors.Is(err, syscall.EEXIST):
		return nil
	case address.Addr().Is6() && errors.Is(err, syscall.EACCES): // what lacks the right gets EPERM
		return fmt.Errorf("%w (sysctl net.ipv6.conf.%s.disable_ipv6)", ErrNoIPv6, n.name)
	case address.Addr().Is6() && (errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EAFNOSUPPORT)):
		return fmt.Errorf("%w (its kernel has none)", ErrNoIPv6)
	}
	return err
}

func (n netlinkAddressing) Remove(_ context.Context, address netip.Prefix) error {
	link, err := n.link()
	if err != nil {
		return err
	}
	if err := netlink.AddrDel(link, netlinkAddr(address)); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return err
	}
	return nil
}

func (n netlinkAddressing) Up(context.Context) error {
	link, err := n.link()
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", n.name, err)
	}
	return nil
}

func (n netlinkAddressing) link() (netlink.Link, error) {
	link, err := netlink.LinkByName(n.name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", n.name, err)
	}
	return link, nil
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

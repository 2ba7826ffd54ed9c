package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// ErrNoIPv6 says that the machine does without IPv6: the interface has its other addresses.
var ErrNoIPv6 = errors.New("IPv6 is switched off on this machine")

// An addressing is the part of an operating system that gives the interface of
// a tunnel its addresses.
type addressing interface {
	// Addresses are those of the interface, link-local ones left out.
	Addresses() ([]netip.Prefix, error)

	// Add gives the interface an address and leads the network of its prefix
	// into it. What is there already is no error. ErrNoIPv6 comes where the system
	// gives out no address of that version.
	Add(ctx context.Context, address netip.Prefix) error

	// Remove takes both away. What is not there is no error.
	Remove(ctx context.Context, address netip.Prefix) error

	// Up lets packets pass. It may be called again.
	Up(ctx context.Context) error
}

// applyAddresses gives an interface exactly the wanted addresses and brings it
// up. One that stays is not touched, so that its connections live on. With
// ErrNoIPv6 all else is done.
func applyAddresses(ctx context.Context, on addressing, want []netip.Prefix) error {
	have, err := on.Addresses()
	if err != nil {
		return err
	}
	missing := make(map[netip.Prefix]bool, len(want))
	for _, address := range want {
		missing[address] = true
	}
	for _, address := range have {
		if missing[address] {
			delete(missing, address)
			continue
		}
		if err := on.Remove(ctx, address); err != nil {
			return fmt.Errorf("remove address %s: %w", address, err)
		}
	}
	var lacking error
	for _, address := range want {
		if !missing[address] {
			continue
		}
		err := on.Add(ctx, address)
		if errors.Is(err, ErrNoIPv6) {
			lacking = err
			continue
		}
		if err != nil {
			return fmt.Errorf("add address %s: %w", address, err)
		}
	}
	if err := on.Up(ctx); err != nil {
		return err
	}
	return lacking
}

// addressesOf lists the addresses of an interface of the host, link-local ones
// left out.
func addressesOf(name string) ([]netip.Prefix, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	list, err := link.Addrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", name, err)
	}
	var out []netip.Prefix
	for _, address := range list {
		network, ok := address.(*net.IPNet)
		if !ok {
			continue
		}
		if prefix, ok := prefixOf(network); ok && !prefix.Addr().IsLinkLocalUnicast() {
			out = append(out, prefix)
		}
	}
	return out, nil
}

func prefixOf(network *net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(network.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	bits, _ := network.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), true
}

package tunnel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// An addressing is the part of an operating system that gives the interface of
// a tunnel its addresses.
type addressing interface {
	// Addresses are those of the interface, link-local ones left out.
	Addresses() ([]netip.Prefix, error)

	// Add gives the interface an address and leads the network of its prefix
	// into it. What is there already is no error.
	Add(ctx context.Context, address netip.Prefix) error

	// Remove takes both away. What is not there is no error.
	Remove(ctx context.Context, address netip.Prefix) error

	// Up lets packets pass. It may be called again.
	Up(ctx context.Context) error
}

// applyAddresses gives an interface exactly the wanted addresses and brings it
// up. One that stays is not touched, so that its connections live on.
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
	for _, address := range want {
		if !missing[address] {
			continue
		}
		if err := on.Add(ctx, address); err != nil {
			return fmt.Errorf("add address %s: %w", address, err)
		}
	}
	return on.Up(ctx)
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

package function

import (
	"fmt"
	"net/netip"
)

// parsePrefix reads a network or a single address. Bits behind the length are
// dropped, and an IPv4 address inside IPv6 is IPv4.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is neither a network such as 10.0.0.0/8 nor an address", text)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, fmt.Errorf("%q is an IPv4 network inside IPv6 with less than 96 bits: write it as IPv4", text)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// contains reports that every address of inner is one of outer.
func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// exclude is the fewest networks, in order, that hold all addresses of whole
// but those of the holes.
func exclude(whole netip.Prefix, holes []netip.Prefix) []netip.Prefix {
	out := []netip.Prefix{}
	var inside []netip.Prefix
	for _, hole := range holes {
		switch {
		case contains(hole, whole):
			return out
		case contains(whole, hole):
			inside = append(inside, hole)
		}
	}
	if len(inside) == 0 {
		return append(out, whole)
	}
	for _, half := range halves(whole) {
		out = append(out, exclude(half, inside)...)
	}
	return out
}

// halves are the two networks that make up one of more than one address.
func halves(p netip.Prefix) [2]netip.Prefix {
	bits := p.Bits() + 1
	upper := p.Addr().AsSlice()
	upper[(bits-1)/8] |= 1 << (7 - (bits-1)%8)
	addr, _ := netip.AddrFromSlice(upper)
	return [2]netip.Prefix{netip.PrefixFrom(p.Addr(), bits), netip.PrefixFrom(addr, bits)}
}

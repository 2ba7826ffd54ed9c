// Package ipam gives overlay addresses.
//
// A network has an IPv4 range inside 100.64.0.0/10 (RFC 6598, section 7) or
// private space, and an IPv6 /48 from fd00::/8 (RFC 4193, section 3.1). By
// default the address of a peer is the first address of the range plus its
// ordinal, so that a set of ordinals is a set of addresses too; only addresses
// set by hand differ, and they stand in the peer's own entry.
package ipam

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Quarantine is how long a freed ordinal is not given again: as long as a
// retained log may still name it.
const Quarantine = 24 * time.Hour

// FirstOrdinal is the ordinal of the first peer; 0 would be the address of the
// network itself.
const FirstOrdinal uint32 = 1

// ErrPoolExhausted says that no address of the range is free.
var ErrPoolExhausted = errors.New("no overlay address is free; remove peers or use a larger network range")

// A Pool is the address space of one account.
type Pool struct{ V4, V6 netip.Prefix }

// ParsePool reads the two ranges of an account.
func ParsePool(v4, v6 string) (p Pool, err error) {
	if p.V4, err = netip.ParsePrefix(v4); err != nil {
		return p, fmt.Errorf("network range: %w", err)
	}
	if p.V6, err = netip.ParsePrefix(v6); err != nil {
		return p, fmt.Errorf("network range: %w", err)
	}
	return p, nil
}

// NewPool returns a random /16 inside 100.64.0.0/10 and a random /48 (RFC 4193,
// section 3.2.2), so that two networks rarely overlap.
func NewPool() Pool {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	v4 := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64 | b[0]&0x3f, 0, 0}), 16)
	v6 := netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, b[1], b[2], b[3], b[4], b[5]}), 48)
	return Pool{V4: v4, V6: v6}
}

// Capacity returns how many peers the range holds.
func (p Pool) Capacity() uint32 { return 1<<(32-p.V4.Bits()) - 2 }

// Addresses returns the default addresses of an ordinal; ErrPoolExhausted when
// the range ends before it.
func (p Pool) Addresses(ordinal uint32) (v4, v6 netip.Addr, err error) {
	if ordinal < FirstOrdinal || ordinal > p.Capacity() {
		return v4, v6, ErrPoolExhausted
	}
	four := p.V4.Addr().As4()
	binary.BigEndian.PutUint32(four[:], binary.BigEndian.Uint32(four[:])+ordinal)
	six := p.V6.Addr().As16()
	binary.BigEndian.PutUint32(six[12:], ordinal)
	return netip.AddrFrom4(four), netip.AddrFrom16(six), nil
}

// Usable says why an address cannot be given to a peer by hand; "" when it can.
func (p Pool) Usable(a netip.Addr) string {
	switch {
	case !a.Is4() || !p.V4.Contains(a):
		return fmt.Sprintf("must lie inside the network range %s", p.V4)
	case a == p.V4.Addr() || a == last(p.V4):
		return fmt.Sprintf("must not be the first or the last address of the network range %s", p.V4)
	}
	return ""
}

// Usable6 is Usable for the IPv6 address of a peer.
func (p Pool) Usable6(a netip.Addr) string {
	switch {
	case !a.Is6() || !p.V6.Contains(a):
		return fmt.Sprintf("must lie inside the network range %s", p.V6)
	case a == p.V6.Addr():
		return fmt.Sprintf("must not be the first address of the network range %s", p.V6)
	}
	return ""
}

// Place returns the number of an IPv4 address in the range: that of the first
// address is 0.
func (p Pool) Place(a netip.Addr) uint32 {
	first, four := p.V4.Addr().As4(), a.As4()
	return binary.BigEndian.Uint32(four[:]) - binary.BigEndian.Uint32(first[:])
}

// At returns the IPv4 address with a number in the range; ErrPoolExhausted when
// the range ends before it.
func (p Pool) At(place uint32) (netip.Addr, error) {
	v4, _, err := p.Addresses(place)
	return v4, err
}

func last(p netip.Prefix) netip.Addr {
	four := p.Addr().As4()
	binary.BigEndian.PutUint32(four[:], binary.BigEndian.Uint32(four[:])|(1<<(32-p.Bits())-1))
	return netip.AddrFrom4(four)
}

// shared is the space of RFC 6598, section 7.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// CheckRange says why a range cannot be the network of an account; "" when it can.
func CheckRange(p netip.Prefix) string {
	switch {
	case !p.Addr().Is4():
		return "must be an IPv4 range"
	case p.Bits() < 8 || p.Bits() > 24:
		return "must have a prefix length from /8 to /24"
	case p.Addr().IsPrivate() && privateWhole(p), shared.Contains(p.Addr()) && p.Bits() >= shared.Bits():
		return ""
	}
	return "must lie inside 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10"
}

// privateWhole reports whether the last address is private too (RFC 1918).
func privateWhole(p netip.Prefix) bool { return last(p).IsPrivate() }

package firewall

import (
	"net/netip"

	"github.com/wattlenet/wattle/internal/table"
)

// of returns the address of one family; not valid when there is none.
func (a Addresses) of(ipv6 bool) netip.Addr {
	if ipv6 {
		return a.IPv6
	}
	return a.IPv4
}

// An addressKey is an address without the zone, which addresses of the overlay
// do not have: looking one up allocates nothing.
type addressKey struct {
	raw [16]byte
	is4 bool
}

// addressSet holds addresses.
type addressSet = table.Table[addressKey, struct{}]

func keyOf(addr netip.Addr) addressKey { return addressKey{addr.As16(), addr.Is4()} }

func (k addressKey) addr() netip.Addr {
	addr := netip.AddrFrom16(k.raw)
	if k.is4 {
		return addr.Unmap()
	}
	return addr
}

// A register tells the peer of each address. It does not change.
type register struct {
	peers    table.Table[uint32, Addresses]
	ordinals table.Table[addressKey, uint32]
}

// of returns the register of other peers.
func (r register) of(peers table.Table[uint32, Addresses]) register {
	edit := r.ordinals.Edit()
	for _, peer := range table.Diff(r.peers, peers, table.Equal) {
		if peer.Was == nil {
			continue
		}
		for _, ipv6 := range []bool{false, true} {
			if addr := peer.Was.of(ipv6); addr.IsValid() {
				edit.Delete(keyOf(addr))
			}
		}
	}
	for n, peer := range table.Diff(r.peers, peers, table.Equal) {
		if peer.Is == nil {
			continue
		}
		for _, ipv6 := range []bool{false, true} {
			if addr := peer.Is.of(ipv6); addr.IsValid() {
				edit.Set(keyOf(addr), n)
			}
		}
	}
	return register{peers, edit.Table()}
}

// find returns the peer of an address.
func (r register) find(addr netip.Addr) (ordinal uint32, known bool) {
	return r.ordinals.Get(keyOf(addr))
}

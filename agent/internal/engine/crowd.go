package engine

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/dns"
	"github.com/wattlenet/wattle/agent/internal/firewall"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/label"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/table"
)

// crowd is the other machines of a map, in the form in which each part of the
// agent wants them. It is a value: one map's is made out of another's by what
// changed between the two, and shares the rest with it.
//
//	entries of the map --diff--> tunnel   peers and their addresses
//	                             paths    whom a path may be sought to
//	                             addresses, owners   firewall, and questions by address
//	                             hosts    names
//
// An entry that cannot be followed is left out, or followed in part, and refused
// says why. Of two that claim one thing the lower ordinal has it.
type crowd struct {
	entries table.Table[uint32, api.PeerEntry] // of the map
	self    self

	tunnel    table.Table[tunnel.PublicKey, tunnel.Peer]
	paths     table.Table[string, connectivity.Peer]  // by id
	addresses table.Table[uint32, firewall.Addresses] // by ordinal, those of this machine too
	hosts     table.Table[string, dns.Host]           // by label in lower case, those of this machine too
	owners    table.Table[netip.Addr, uint32]
	keys      table.Table[tunnel.PublicKey, uint32] // next keys as well

	refused table.Table[uint32, []refusal]
	clash   bool // one of them because of another entry
}

// peer is another machine in the map.
type peer struct {
	entry      api.PeerEntry
	key        tunnel.PublicKey
	next       tunnel.PublicKey // that it will change over to; zero: none
	ipv4, ipv6 netip.Addr
}

// follow makes the crowd of a map.
func (c crowd) follow(m *mapstate.Map, mine self) crowd {
	if !c.self.sameTo(mine) {
		c = crowd{}
	}
	if c.clash && c.entries.Same(m.Peers) {
		c.self = mine
		return c // nobody came, went or changed, so what they claim is settled
	}
	if next, clean := c.fold(m, mine); clean {
		return next
	}
	// Somebody claims what another has. Who it belongs to is found in the order of
	// the ordinals, from the beginning.
	next, _ := crowd{}.fold(m, mine)
	return next
}

// sameTo reports whether a machine is the same to others.
func (s self) sameTo(o self) bool {
	return s.ipv4 == o.ipv4 && s.ipv6 == o.ipv6 && s.view.N == o.view.N && s.view.Key == o.view.Key &&
		s.view.Name == o.view.Name && slices.Equal(s.view.Aliases, o.view.Aliases)
}

// fold applies what changed from c to a map. It is clean unless an entry claims, or
// claimed, what another has.
func (c crowd) fold(m *mapstate.Map, mine self) (next crowd, clean bool) {
	e := edit{
		tunnel: c.tunnel.Edit(), paths: c.paths.Edit(), addresses: c.addresses.Edit(), hosts: c.hosts.Edit(),
		owners: c.owners.Edit(), keys: c.keys.Edit(), refused: c.refused.Edit(),
		entries: m.Peers, clash: c.clash,
	}
	if !c.addresses.Has(mine.view.N) {
		e.putSelf(mine)
	}
	var come []uint32
	for n, entry := range table.Diff(c.entries, m.Peers, mapstate.EqualPeers) {
		if n == mine.view.N {
			continue // this machine stands in sets that it sees
		}
		if entry.Was != nil {
			e.drop(*entry.Was)
		}
		if entry.Is != nil {
			come = append(come, n)
		}
	}
	slices.Sort(come)
	for _, n := range come {
		e.put(m.Peers.At(n))
	}
	next = crowd{
		entries: m.Peers, self: mine,
		tunnel: e.tunnel.Table(), paths: e.paths.Table(), addresses: e.addresses.Table(), hosts: e.hosts.Table(),
		owners: e.owners.Table(), keys: e.keys.Table(), refused: e.refused.Table(), clash: e.clash,
	}
	return next, !next.clash
}

// edit is a crowd in the making.
type edit struct {
	tunnel    *table.Edit[tunnel.PublicKey, tunnel.Peer]
	paths     *table.Edit[string, connectivity.Peer]
	addresses *table.Edit[uint32, firewall.Addresses]
	hosts     *table.Edit[string, dns.Host]
	owners    *table.Edit[netip.Addr, uint32]
	keys      *table.Edit[tunnel.PublicKey, uint32]
	refused   *table.Edit[uint32, []refusal]

	entries table.Table[uint32, api.PeerEntry] // that it is made for
	clash   bool
}

// putSelf claims what belongs to this machine.
func (e *edit) putSelf(mine self) {
	ipv4, ipv6 := mine.ipv4.Addr(), mine.ipv6.Addr()
	e.addresses.Set(mine.view.N, firewall.Addresses{IPv4: ipv4, IPv6: ipv6})
	for _, addr := range []netip.Addr{ipv4, ipv6} {
		if addr.IsValid() {
			e.owners.Set(addr, mine.view.N)
		}
	}
	if key, err := tunnel.ParsePublicKey(mine.view.Key); err == nil {
		e.keys.Set(key, mine.view.N)
	}
	for _, name := range append([]string{mine.view.Name}, mine.view.Aliases...) {
		e.hosts.Set(strings.ToLower(name), dns.Host{Name: mine.view.Name, IPv4: ipv4, IPv6: ipv6})
	}
}

// put takes a machine in, as far as what the map says of it can be.
func (e *edit) put(entry api.PeerEntry) {
	var faults []refusal
	refuse := func(format string, args ...any) {
		faults = append(faults, refusal{kind: "peer", name: cmp.Or(entry.Name, entry.Id), reason: fmt.Sprintf(format, args...)})
		e.refused.Set(entry.N, faults)
	}
	clash := func(format string, args ...any) {
		refuse(format, args...)
		e.clash = true
	}
	p := peer{entry: entry}
	var err error
	if p.key, err = tunnel.ParsePublicKey(entry.Key); err != nil {
		refuse("its key is none: %v", err)
		return
	}
	if _, taken := e.paths.Get(entry.Id); taken {
		clash("another peer has its id %s", entry.Id)
		return
	}
	if n, taken := e.keys.Get(p.key); taken {
		clash("its key belongs to %s", e.name(n))
		return
	}
	if entry.NextKey != "" {
		p.next, err = tunnel.ParsePublicKey(entry.NextKey)
		n, taken := e.keys.Get(p.next)
		switch {
		case err != nil:
			refuse("the key that it will change over to is none: %v", err)
			p.next = tunnel.PublicKey{}
		case taken || p.next == p.key:
			clash("the key that it will change over to belongs to %s", e.name(n))
			p.next = tunnel.PublicKey{}
		}
	}
	p.ipv4, p.ipv6 = e.claim(entry.Ip, refuse, clash), e.claim(entry.Ipv6, refuse, clash)
	e.add(p)
	for i, name := range append([]string{entry.Name}, entry.Aliases...) {
		key := strings.ToLower(name)
		other, taken := e.hosts.Get(key)
		switch {
		case key != label.Of(key):
			refuse("the name %q is none that the DNS has; it is reached by its address", name)
		case taken:
			clash("the name %s belongs to %s; it is reached by its address", name, other.Name)
		case i == 0 || p.entry.Name == label.Of(strings.ToLower(p.entry.Name)):
			e.hosts.Set(key, dns.Host{Name: p.entry.Name, IPv4: p.ipv4, IPv6: p.ipv6})
		default:
			e.hosts.Set(key, dns.Host{Name: name, IPv4: p.ipv4, IPv6: p.ipv6})
		}
	}
}

// claim reads an overlay address that nobody has so far.
func (e *edit) claim(text string, refuse, clash func(string, ...any)) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		refuse("its address is none: %v", err)
		return netip.Addr{}
	}
	if n, taken := e.owners.Get(addr); taken {
		clash("its address %s belongs to %s", addr, e.name(n))
		return netip.Addr{}
	}
	return addr
}

// name is how a machine is called.
func (e *edit) name(n uint32) string {
	entry, other := e.entries.Get(n)
	if !other {
		return "this machine"
	}
	return cmp.Or(entry.Name, entry.Id)
}

// add enters a machine whose claims are its own.
func (e *edit) add(p peer) {
	n := p.entry.N
	var allowed []netip.Prefix
	for _, addr := range []netip.Addr{p.ipv4, p.ipv6} {
		if addr.IsValid() {
			allowed = append(allowed, netip.PrefixFrom(addr, addr.BitLen()))
			e.owners.Set(addr, n)
		}
	}
	e.keys.Set(p.key, n)
	if !p.next.IsZero() {
		e.keys.Set(p.next, n)
	}
	e.tunnel.Set(p.key, tunnel.Peer{PublicKey: p.key, NextKey: p.next, AllowedIPs: allowed})
	e.paths.Set(p.entry.Id, connectivity.Peer{ID: p.entry.Id, PublicKey: p.key, NextKey: p.next})
	e.addresses.Set(n, firewall.Addresses{IPv4: p.ipv4, IPv6: p.ipv6})
}

// drop takes out what put took in of an entry. Where nothing clashes that is its
// own.
func (e *edit) drop(entry api.PeerEntry) {
	e.refused.Delete(entry.N)
	known, ok := e.paths.Get(entry.Id)
	if n, mine := e.keys.Get(known.PublicKey); !ok || !mine || n != entry.N {
		return // it was refused as a whole
	}
	addresses, _ := e.addresses.Get(entry.N)
	for _, addr := range []netip.Addr{addresses.IPv4, addresses.IPv6} {
		e.owners.Delete(addr)
	}
	e.keys.Delete(known.PublicKey)
	e.keys.Delete(known.NextKey)
	e.tunnel.Delete(known.PublicKey)
	e.paths.Delete(entry.Id)
	e.addresses.Delete(entry.N)
	for _, name := range append([]string{entry.Name}, entry.Aliases...) {
		if key := strings.ToLower(name); key == label.Of(key) {
			e.hosts.Delete(key)
		}
	}
}

// at returns the peer with an ordinal.
func (c crowd) at(n uint32) (peer, bool) {
	entry, known := c.entries.Get(n)
	found, followed := c.paths.Get(entry.Id)
	if !known || !followed {
		return peer{}, false
	}
	if owner, _ := c.keys.Get(found.PublicKey); owner != n {
		return peer{}, false
	}
	addresses := c.addresses.At(n)
	return peer{entry: entry, key: found.PublicKey, next: found.NextKey, ipv4: addresses.IPv4, ipv6: addresses.IPv6}, true
}

// withAddress returns the peer that has an overlay address.
func (c crowd) withAddress(addr netip.Addr) (peer, bool) {
	n, known := c.owners.Get(addr)
	if !known {
		return peer{}, false
	}
	return c.at(n)
}

// withID returns the peer with an id.
func (c crowd) withID(id string) (peer, bool) {
	found, known := c.paths.Get(id)
	if !known {
		return peer{}, false
	}
	return c.at(c.keys.At(found.PublicKey))
}

// everybody lists the peers by name.
func (c crowd) everybody() []peer {
	list := make([]peer, 0, c.paths.Len())
	for n := range c.addresses.Keys() {
		if p, other := c.at(n); other {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b peer) int {
		return cmp.Or(cmp.Compare(a.entry.Name, b.entry.Name), cmp.Compare(a.entry.N, b.entry.N))
	})
	return list
}

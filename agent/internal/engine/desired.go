package engine

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/dns"
	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/firewall"
	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/route"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// desired is what one state of the map means for this machine. It is a value
// made from values; the parts of the agent are told of it by Set.
type desired struct {
	self     self
	tunnel   tunnel.Settings
	paths    []connectivity.Peer
	firewall firewall.Config
	dns      dns.Config
	names    system.Config // zero: the machine asks as before
	routing  route.Config
	keys     postquantum.Mode
	peers    []peer // by name

	strangers []string // names that settings of paths have, and no peer

	exit         exit
	destinations []*destination  // by name
	watched      map[string]bool // ids of peers whose place another can take

	turn time.Time // when a rule next begins or ends; zero for never
}

// self is this machine in the map.
type self struct {
	ipv4, ipv6 netip.Prefix // each with the length of the network
	view       api.SelfView
}

// peer is another machine in the map.
type peer struct {
	entry      api.PeerEntry
	key        tunnel.PublicKey
	next       tunnel.PublicKey // that it will change over to; zero: none
	ipv4, ipv6 netip.Addr
}

// plan makes the desired state. The map passed its digest, so an address or key
// that cannot be read is a fault of the control plane: the error names it and
// nothing is applied.
func plan(m *mapstate.Map, name string) (*desired, error) {
	d := &desired{self: self{view: m.Self}}
	var err error
	if d.self.ipv4, err = within(m.Self.Ip, m.Self.Network); err != nil {
		return nil, fmt.Errorf("network map: own address: %w", err)
	}
	if d.self.ipv6, err = within(m.Self.Ipv6, m.Self.NetworkV6); err != nil {
		return nil, fmt.Errorf("network map: own address: %w", err)
	}
	for _, n := range slices.Sorted(maps.Keys(m.Peers)) {
		entry := m.Peers[n]
		if n == m.Self.N {
			continue // this machine stands in sets that it sees
		}
		other, err := readPeer(entry)
		if err != nil {
			return nil, fmt.Errorf("network map: peer %s: %w", entry.Id, err)
		}
		d.peers = append(d.peers, other)
	}
	slices.SortFunc(d.peers, func(a, b peer) int { return cmp.Compare(a.entry.Name, b.entry.Name) })
	d.planTunnel()
	d.planFirewall(m, name)
	d.planDNS(m.Names)
	d.planNames(name)
	d.planRoutes(m)
	return d, nil
}

func within(address, network string) (netip.Prefix, error) {
	if address == "" {
		return netip.Prefix{}, nil
	}
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}, err
	}
	prefix, err := netip.ParsePrefix(network)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !prefix.Contains(addr) {
		return netip.Prefix{}, fmt.Errorf("%s lies outside of %s", addr, prefix)
	}
	return netip.PrefixFrom(addr, prefix.Bits()), nil
}

func readPeer(entry api.PeerEntry) (peer, error) {
	key, err := tunnel.ParsePublicKey(entry.Key)
	if err != nil {
		return peer{}, err
	}
	p := peer{entry: entry, key: key}
	if entry.NextKey != "" {
		if p.next, err = tunnel.ParsePublicKey(entry.NextKey); err != nil {
			return peer{}, err
		}
	}
	if entry.Ip != "" {
		if p.ipv4, err = netip.ParseAddr(entry.Ip); err != nil {
			return peer{}, err
		}
	}
	if entry.Ipv6 != "" {
		if p.ipv6, err = netip.ParseAddr(entry.Ipv6); err != nil {
			return peer{}, err
		}
	}
	return p, nil
}

func (d *desired) planTunnel() {
	for _, address := range []netip.Prefix{d.self.ipv4, d.self.ipv6} {
		if address.IsValid() {
			d.tunnel.Addresses = append(d.tunnel.Addresses, address)
		}
	}
	for _, p := range d.peers {
		var allowed []netip.Prefix
		for _, addr := range []netip.Addr{p.ipv4, p.ipv6} {
			if addr.IsValid() {
				allowed = append(allowed, netip.PrefixFrom(addr, addr.BitLen()))
			}
		}
		d.tunnel.Peers = append(d.tunnel.Peers, tunnel.Peer{PublicKey: p.key, NextKey: p.next, AllowedIPs: allowed})
		d.paths = append(d.paths, connectivity.Peer{ID: p.entry.Id, PublicKey: p.key, NextKey: p.next})
	}
}

// require takes what this machine wants of post-quantum keys.
func (d *desired) require(mode postquantum.Mode) {
	d.keys = mode
	d.tunnel.RequirePresharedKey = mode == postquantum.Strict
}

func (d *desired) planFirewall(m *mapstate.Map, name string) {
	d.firewall = firewall.Config{
		Interface: name,
		Self:      m.Self.N,
		Peers:     map[uint32]firewall.Addresses{m.Self.N: {IPv4: d.self.ipv4.Addr(), IPv6: d.self.ipv6.Addr()}},
		Networks:  d.networks(),
		Sets:      m.Sets,
		Rules:     rulesOf(m),
	}
	for _, p := range d.peers {
		d.firewall.Peers[p.entry.N] = firewall.Addresses{IPv4: p.ipv4, IPv6: p.ipv6}
	}
}

// rulesOf returns the rules of the map in the order of their ids.
func rulesOf(m *mapstate.Map) []api.CompiledRule {
	return slices.SortedFunc(maps.Values(m.Rules), func(a, b api.CompiledRule) int { return cmp.Compare(a.Id, b.Id) })
}

func (d *desired) networks() []netip.Prefix {
	var networks []netip.Prefix
	for _, address := range []netip.Prefix{d.self.ipv4, d.self.ipv6} {
		if address.IsValid() {
			networks = append(networks, address.Masked())
		}
	}
	return networks
}

// addresses lists the overlay addresses as text.
func addresses(list ...netip.Addr) []string {
	text := []string{}
	for _, addr := range list {
		if addr.IsValid() {
			text = append(text, addr.String())
		}
	}
	return text
}

// find returns the peer with a name, a full name or an overlay address.
func (d *desired) find(host dns.Host) (peer, bool) {
	for _, p := range d.peers {
		if p.ipv4 == host.IPv4 && p.ipv6 == host.IPv6 {
			return p, true
		}
	}
	return peer{}, false
}

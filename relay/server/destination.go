package server

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// interfacesValid is how long a reading of the host's interfaces is believed.
// Addresses of a relay rarely change; permissions are refreshed every few
// minutes, so a new address is known before anybody could use it for long.
const interfacesValid = 10 * time.Second

// Networks that are nobody's peer, whatever the settings say.
var neverPeers = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),      // this network (RFC 1122, section 3.2.1.3)
	netip.MustParsePrefix("127.0.0.0/8"),    // loopback (RFC 1122, section 3.2.1.3)
	netip.MustParsePrefix("169.254.0.0/16"), // link-local and metadata services (RFC 3927)
	netip.MustParsePrefix("224.0.0.0/4"),    // multicast (RFC 5771)
	netip.MustParsePrefix("240.0.0.0/4"),    // reserved and broadcast (RFC 1112, section 4)
}

// sharedAddressSpace holds carriers' NATs (RFC 6598) and our overlay: neither
// is reached through a relay.
var sharedAddressSpace = netip.MustParsePrefix("100.64.0.0/10")

// destinations decides which addresses a client may exchange packets with
// through the relay, so that a credential does not open the network around the
// relay. The relay's own allocations are not its business: see relayedSocket.
type destinations struct {
	allowed      []netip.Prefix
	allowPrivate bool
	interfaces   func() ([]netip.Prefix, error)

	mu    sync.Mutex // guards own, until
	own   []netip.Prefix
	until time.Time
}

// permits reports whether addr may be a peer. When the host's interfaces
// cannot be read it refuses everything that is not allowed by setting.
func (d *destinations) permits(addr netip.Addr) bool {
	addr = addr.Unmap()
	own, err := d.ownNetworks()
	if slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == addr }) {
		return false
	}
	if containedIn(d.allowed, addr) {
		return true
	}
	if err != nil || !addr.Is4() || containedIn(neverPeers, addr) || sharedAddressSpace.Contains(addr) {
		return false
	}
	if addr.IsPrivate() {
		return d.allowPrivate
	}
	return !containedIn(own, addr)
}

// ownNetworks returns the host's addresses with their prefix lengths.
func (d *destinations) ownNetworks() ([]netip.Prefix, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if now.Before(d.until) {
		return d.own, nil
	}
	own, err := d.interfaces()
	if err != nil {
		return d.own, err
	}
	d.own, d.until = own, now.Add(interfacesValid)
	return own, nil
}

func containedIn(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// interfacePrefixes reads the addresses of this host, not masked.
func interfacePrefixes() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("read interface addresses: %w", err)
	}
	prefixes := make([]netip.Prefix, 0, len(addrs))
	for _, addr := range addrs {
		network, ok := addr.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(network.IP)
		if !ok {
			continue
		}
		ones, _ := network.Mask.Size()
		prefixes = append(prefixes, netip.PrefixFrom(ip.Unmap(), ones))
	}
	return prefixes, nil
}

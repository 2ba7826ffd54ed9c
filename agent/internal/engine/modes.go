package engine

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/settings"
)

// A peerMode is what this machine wants of the paths to one other.
type peerMode struct {
	name string // or an overlay address
	mode connectivity.Mode
}

// peerModesOf reads a setting that was checked.
func peerModesOf(v settings.Values) (list []peerMode) {
	for _, each := range v.PeerPaths {
		name, mode, _ := strings.Cut(each, "=")
		list = append(list, peerMode{name, connectivity.Mode(mode)})
	}
	return list
}

// choosePaths gives peers their modes and remembers what fits none of them.
func (d *desired) choosePaths(modes []peerMode) {
	d.modes = make(map[string]connectivity.Mode, len(modes))
	for _, m := range modes {
		p, known := d.called(m.name)
		if !known {
			d.strangers = append(d.strangers, m.name)
			continue
		}
		d.modes[p.entry.Id] = m.mode
	}
}

// called returns the peer with a name or an overlay address.
func (d *desired) called(name string) (peer, bool) {
	addr, err := netip.ParseAddr(name)
	if err != nil {
		host := d.crowd.hosts.At(strings.ToLower(name))
		if addr = host.IPv4; !addr.IsValid() {
			addr = host.IPv6
		}
	}
	p, known := d.crowd.withAddress(addr)
	return p, known && (err == nil || strings.EqualFold(p.entry.Name, name))
}

// unknownPeers are warnings about modes for machines that are not there.
func (d *desired) unknownPeers() (warnings []string) {
	for _, name := range d.strangers {
		warnings = append(warnings, fmt.Sprintf("peer_paths names %s, which no machine is called that this one may reach", name))
	}
	return warnings
}

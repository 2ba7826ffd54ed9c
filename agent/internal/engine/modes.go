package engine

import (
	"fmt"
	"slices"
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
	for _, m := range modes {
		i := slices.IndexFunc(d.peers, func(p peer) bool {
			return strings.EqualFold(p.entry.Name, m.name) || m.name == p.ipv4.String() || m.name == p.ipv6.String()
		})
		if i < 0 {
			d.strangers = append(d.strangers, m.name)
			continue
		}
		at := slices.IndexFunc(d.paths, func(p connectivity.Peer) bool { return p.ID == d.peers[i].entry.Id })
		d.paths[at].Mode = m.mode
	}
}

// unknownPeers are warnings about modes for machines that are not there.
func (d *desired) unknownPeers() (warnings []string) {
	for _, name := range d.strangers {
		warnings = append(warnings, fmt.Sprintf("peer_paths names %s, which no machine is called that this one may reach", name))
	}
	return warnings
}

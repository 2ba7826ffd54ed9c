package control

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
)

// Bounds of the contract (MachineFacts).
const (
	maxVersion   = 64 // bytes of a version
	maxAddresses = 256
)

// A Machine looks at the machine that the agent runs on.
type Machine struct {
	AgentVersion string // required

	// Hostname is what the machine calls itself; empty for the host name of the
	// operating system.
	Hostname string

	// Interface is the agent's own one, which is not told of; empty without one.
	Interface string

	// Overlay reports whether an address belongs to the network and is not told
	// of; nil for none.
	Overlay func(netip.Addr) bool
}

// Facts returns what the machine tells about itself now, and which of the given
// programs run; of no other program anything is told. The error says what could
// not be seen; the facts are good without it.
func (m Machine) Facts(programs []string) (api.MachineFacts, error) {
	facts := api.MachineFacts{
		Hostname: m.Hostname, Os: runtime.GOOS, Arch: runtime.GOARCH,
		KernelVersion: kernelVersion(), AgentVersion: short(m.AgentVersion),
	}
	if facts.Hostname == "" {
		var err error
		if facts.Hostname, err = os.Hostname(); err != nil {
			facts.Hostname = "unnamed"
		}
	}
	if release := short(osVersion()); release != "" {
		facts.OsVersion = &release
	}
	addresses, fault := m.addresses()
	if fault == nil {
		facts.NetworkAddresses = &addresses
	}
	if len(programs) == 0 {
		return facts, fault
	}
	list, err := executables()
	if errors.Is(err, errors.ErrUnsupported) {
		return facts, errors.Join(fault, err)
	}
	found := running(programs, list)
	facts.RunningProcesses = &found
	if len(found) < len(programs) {
		fault = errors.Join(fault, err)
	}
	return facts, fault
}

// short cuts a version to what the contract takes.
func short(version string) string {
	return strings.ToValidUTF8(version[:min(len(version), maxVersion)], "")
}

// addresses are those of the interfaces outside of the overlay, in order, with
// the lengths of their prefixes. Addresses that mean nothing beyond a link are
// left out.
func (m Machine) addresses() ([]string, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("addresses of the interfaces: %w", err)
	}
	var found []netip.Prefix
	for _, each := range interfaces {
		if each.Flags&net.FlagUp == 0 || each.Name == m.Interface {
			continue
		}
		list, err := each.Addrs()
		if err != nil {
			continue // the interface has gone
		}
		for _, one := range list {
			if prefix, ok := m.told(one); ok {
				found = append(found, prefix)
			}
		}
	}
	slices.SortFunc(found, netip.Prefix.Compare)
	found = slices.Compact(found)
	texts := make([]string, 0, len(found))
	for _, prefix := range found[:min(len(found), maxAddresses)] {
		texts = append(texts, prefix.String())
	}
	return texts, nil
}

// told returns an address of an interface if it is one to tell of.
func (m Machine) told(address net.Addr) (netip.Prefix, bool) {
	network, ok := address.(*net.IPNet)
	if !ok {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(network.IP)
	ip = ip.Unmap()
	length, bits := network.Mask.Size()
	if !ok || bits != ip.BitLen() || !ip.IsGlobalUnicast() || m.Overlay != nil && m.Overlay(ip) {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(ip, length), true
}

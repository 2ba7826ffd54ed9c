// Package posture decides whether a machine meets a posture check.
//
// What a machine did not tell, or what cannot be read, never meets a check.
package posture

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
)

// A Machine is what is known of a peer when it is judged.
type Machine struct {
	// Facts is what its agent reported last.
	Facts api.MachineFacts
	// Country is the ISO 3166-1 alpha-2 code of where it is; empty when unknown.
	Country string
	// City is the English name of the city; empty when unknown.
	City string
}

// Fault says why a machine does not meet the checks, in a few words; empty when
// it meets all that are there.
func Fault(checks api.PostureChecks, m Machine) string {
	faults := []string{}
	if c := checks.NbVersionCheck; c != nil {
		faults = append(faults, versionFault("the agent", m.Facts.AgentVersion, c.MinVersion))
	}
	if c := checks.OsVersionCheck; c != nil {
		faults = append(faults, systemFault(*c, m.Facts))
	}
	if c := checks.GeoLocationCheck; c != nil {
		faults = append(faults, placeFault(*c, m))
	}
	if c := checks.PeerNetworkRangeCheck; c != nil {
		faults = append(faults, networkFault(*c, m.Facts))
	}
	if c := checks.ProcessCheck; c != nil {
		faults = append(faults, processFault(*c, m.Facts))
	}
	return strings.Join(slices.DeleteFunc(faults, func(f string) bool { return f == "" }), "; ")
}

func versionFault(what, has, least string) string {
	have, known := parseVersion(has)
	want, _ := parseVersion(least)
	switch {
	case !known:
		return fmt.Sprintf("%s tells no version that can be compared", what)
	case have.below(want):
		return fmt.Sprintf("%s has version %s, below %s", what, has, least)
	}
	return ""
}

func kernelFault(has, least string) string {
	have, known := parseVersion(has)
	want, _ := parseVersion(least)
	switch {
	case !known:
		return "the kernel tells no version that can be compared"
	case slices.Compare(have.numbers[:], want.numbers[:]) < 0:
		return fmt.Sprintf("the kernel has version %s, below %s", has, least)
	}
	return ""
}

func systemFault(c api.OSVersionCheck, facts api.MachineFacts) string {
	release := ""
	if facts.OsVersion != nil {
		release = *facts.OsVersion
	}
	for system, least := range map[string]*api.MinVersion{"android": c.Android, "darwin": c.Darwin, "ios": c.Ios} {
		if facts.Os == system && least != nil {
			return versionFault("the operating system", release, least.MinVersion)
		}
	}
	for system, least := range map[string]*api.MinKernelVersion{"linux": c.Linux, "windows": c.Windows} {
		if facts.Os == system && least != nil {
			return kernelFault(facts.KernelVersion, least.MinKernelVersion)
		}
	}
	return fmt.Sprintf("the operating system %q is not among those that are allowed", facts.Os)
}

func placeFault(c api.GeoLocationCheck, m Machine) string {
	if m.Country == "" {
		return "its location is unknown"
	}
	inside := false
	for _, place := range c.Locations {
		if place.CountryCode != m.Country {
			continue
		}
		switch {
		case place.CityName == nil || strings.EqualFold(*place.CityName, m.City):
			inside = true
		case m.City == "" && c.Action == api.GeoLocationCheckActionDeny:
			return fmt.Sprintf("its city in %s is unknown", m.Country)
		}
	}
	if inside == (c.Action == api.GeoLocationCheckActionAllow) {
		return ""
	}
	return strings.TrimSuffix(fmt.Sprintf("it is in %s, %s", m.Country, m.City), ", ")
}

func networkFault(c api.PeerNetworkRangeCheck, facts api.MachineFacts) string {
	var addresses []netip.Addr
	if facts.NetworkAddresses != nil {
		for _, text := range *facts.NetworkAddresses {
			if prefix, err := netip.ParsePrefix(text); err == nil {
				addresses = append(addresses, prefix.Addr().Unmap())
			}
		}
	}
	if len(addresses) == 0 {
		return "it told no address of its interfaces"
	}
	for _, address := range addresses {
		for _, text := range c.Ranges {
			if r, err := netip.ParsePrefix(text); err != nil || !r.Contains(address) {
				continue
			}
			if c.Action == api.PeerNetworkRangeCheckActionAllow {
				return ""
			}
			return fmt.Sprintf("its address %s is in %s", address, text)
		}
	}
	if c.Action == api.PeerNetworkRangeCheckActionDeny {
		return ""
	}
	return "none of its addresses is in the ranges"
}

func processFault(c api.ProcessCheck, facts api.MachineFacts) string {
	asked := 0
	for _, p := range c.Processes {
		path := map[string]*string{"linux": p.LinuxPath, "darwin": p.MacPath, "windows": p.WindowsPath}[facts.Os]
		if path == nil {
			continue
		}
		asked++
		if facts.RunningProcesses == nil || !slices.Contains(*facts.RunningProcesses, *path) {
			return fmt.Sprintf("%s does not run", *path)
		}
	}
	if asked == 0 {
		return fmt.Sprintf("no program has a path on the operating system %q", facts.Os)
	}
	return ""
}

// Paths are the programs of which a check asks whether they run.
func Paths(checks api.PostureChecks) (paths []string) {
	if checks.ProcessCheck == nil {
		return nil
	}
	for _, p := range checks.ProcessCheck.Processes {
		for _, path := range []*string{p.LinuxPath, p.MacPath, p.WindowsPath} {
			if path != nil {
				paths = append(paths, *path)
			}
		}
	}
	return paths
}

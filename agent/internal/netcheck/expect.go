package netcheck

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Expectations are the words that Differences understands.
var Expectations = []string{
	"udp", "ipv4", "ipv6", "mapping=KIND", "filtering=KIND", "port_mapping", "relay", "management", "clock", "no_captive_portal", "mtu=BYTES",
}

// Differences returns what of a report is not as expected, as sentences. The
// error names a word that it does not understand.
func (r *Report) Differences(expected []string) (list []string, err error) {
	for _, word := range expected {
		holds, found, err := r.holds(word)
		if err != nil {
			return nil, err
		}
		if !holds {
			list = append(list, fmt.Sprintf("%s was expected, found: %s", word, found))
		}
	}
	return list, nil
}

var yesNo = map[bool]string{true: "yes", false: "no"}

func (r *Report) holds(word string) (holds bool, found string, err error) {
	name, value, valued := strings.Cut(word, "=")
	is := func(holds bool) (bool, string, error) { return holds, yesNo[holds], nil }
	switch {
	case name == "mapping" && valued:
		return r.NAT.Mapping == value, r.NAT.Mapping, known(value)
	case name == "filtering" && valued:
		return r.NAT.Filtering == value, r.NAT.Filtering, known(value)
	case name == "mtu" && valued:
		least, err := strconv.Atoi(value)
		if err != nil {
			return false, "", fmt.Errorf("mtu=%s: %q is no number of bytes", value, value)
		}
		return r.IPv4.MTU >= least || r.IPv6.MTU >= least, fmt.Sprint(max(r.IPv4.MTU, r.IPv6.MTU)), nil
	case valued:
	case name == "udp":
		return is(r.IPv4.UDP || r.IPv6.UDP)
	case name == "ipv4":
		return is(r.IPv4.UDP)
	case name == "ipv6":
		return is(r.IPv6.UDP)
	case name == "port_mapping":
		return is(r.PortMapping.Protocol != "")
	case name == "relay":
		return is(slices.ContainsFunc(r.Servers, func(a Answer) bool { return a.Relay && (a.UDP || a.TCP) }))
	case name == "management":
		return is(r.Management.Reached)
	case name == "clock":
		off := r.Management.ClockOffsetSeconds
		if !r.Management.ClockKnown {
			return false, Unknown, nil
		}
		return off <= clockTolerance && off >= -clockTolerance, fmt.Sprintf("off by %.0f s", -off), nil
	case name == "no_captive_portal":
		return r.CaptivePortal == PortalNo, r.CaptivePortal, nil
	}
	return false, "", fmt.Errorf("%q is nothing to expect; use %s", word, strings.Join(Expectations, ", "))
}

func known(kind string) error {
	kinds := []string{None, EndpointIndependent, AddressDependent, AddressAndPortDependent, Unknown}
	if !slices.Contains(kinds, kind) {
		return fmt.Errorf("%q is no kind of NAT behaviour; use %s", kind, strings.Join(kinds, ", "))
	}
	return nil
}

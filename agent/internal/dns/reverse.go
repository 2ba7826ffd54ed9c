package dns

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// ReverseDomains returns the domains below which the reverse names of a range
// are, without a final dot: those of RFC 1035, section 3.5 end at whole bytes and
// those of RFC 3596, section 2.5 at half ones, so that a range in between needs
// several.
func ReverseDomains(network netip.Prefix) []string {
	step := 8
	if network.Addr().Is6() {
		step = 4
	}
	whole := (network.Bits() + step - 1) / step * step
	labels := whole / step
	var domains []string
	addr := network.Masked().Addr()
	for range 1 << (whole - network.Bits()) {
		name, err := dns.ReverseAddr(addr.String())
		if err != nil {
			return nil // no range
		}
		// Below the two labels of the tree stands one for each step.
		parts := strings.Split(strings.TrimSuffix(name, "."), ".")
		domains = append(domains, strings.Join(parts[len(parts)-2-labels:], "."))
		addr = after(addr, whole)
	}
	return domains
}

// after returns the first address behind the range of so many bits at addr.
func after(addr netip.Addr, bits int) netip.Addr {
	raw := addr.AsSlice()
	for i, carry := (bits-1)/8, 1<<((8-bits%8)%8); i >= 0 && carry > 0 && bits > 0; i-- {
		sum := int(raw[i]) + carry
		raw[i], carry = byte(sum), sum>>8
	}
	next, _ := netip.AddrFromSlice(raw)
	return next
}

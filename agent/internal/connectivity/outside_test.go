package connectivity

import (
	"net/netip"
	"slices"
	"testing"
)

func TestOutside(t *testing.T) {
	at := netip.MustParseAddrPort
	local := []netip.AddrPort{at("192.168.1.10:51820"), at("[2001:db8:1::a]:51820")}
	one, other, six := at("203.0.113.1:3478"), at("203.0.113.1:443"), at("[2001:db8::1]:3478")
	type sight struct{ server, mapped netip.AddrPort }
	for name, test := range map[string]struct {
		seen      []sight
		want      Access
		addresses []netip.AddrPort
	}{
		"nobody was asked": {},
		"one server cannot tell": {
			[]sight{{one, at("198.51.100.7:51820")}}, AccessUnknown, []netip.AddrPort{at("198.51.100.7:51820")},
		},
		"one mapping": {
			[]sight{{one, at("198.51.100.7:51820")}, {other, at("198.51.100.7:51820")}}, AccessEasy, []netip.AddrPort{at("198.51.100.7:51820")},
		},
		"a mapping for each server": {
			[]sight{{one, at("198.51.100.7:40000")}, {other, at("198.51.100.7:40001")}}, AccessHard, []netip.AddrPort{at("198.51.100.7:40000")},
		},
		"no NAT": {
			[]sight{{one, local[0]}}, AccessOpen, []netip.AddrPort{local[0]},
		},
		"the mapping has changed for all": {
			[]sight{{one, at("198.51.100.7:1000")}, {other, at("198.51.100.7:1000")}, {one, at("198.51.100.8:1000")}, {other, at("198.51.100.8:1000")}},
			AccessEasy,
			[]netip.AddrPort{at("198.51.100.8:1000")},
		},
		"IPv6 is offered too": {
			[]sight{{one, at("198.51.100.7:51820")}, {six, local[1]}}, AccessUnknown, []netip.AddrPort{at("198.51.100.7:51820"), local[1]},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutside()
			for _, s := range test.seen {
				o.note(s.server, s.mapped, local)
			}
			if got := o.access(true); got != test.want {
				t.Errorf("access %q, want %q", got, test.want)
			}
			if got := o.addresses(); !slices.Equal(got, test.addresses) {
				t.Errorf("addresses %v, want %v", got, test.addresses)
			}
		})
	}
}

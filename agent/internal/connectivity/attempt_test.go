package connectivity

import (
	"net/netip"
	"slices"
	"testing"
)

func TestNarrowInterfacesAreTheLastResort(t *testing.T) {
	lan, vpn := netip.MustParseAddrPort("192.168.1.10:1"), netip.MustParseAddrPort("10.99.0.1:1")
	for _, test := range []struct{ wide, narrow, want []netip.AddrPort }{
		{[]netip.AddrPort{lan}, []netip.AddrPort{vpn}, []netip.AddrPort{lan}},
		{nil, []netip.AddrPort{vpn}, []netip.AddrPort{vpn}},
		{nil, nil, nil},
		{slices.Repeat([]netip.AddrPort{lan}, maximumAddresses+1), nil, slices.Repeat([]netip.AddrPort{lan}, maximumAddresses)},
	} {
		if got := offered(test.wide, test.narrow); !slices.Equal(got, test.want) {
			t.Errorf("of %v and %v are offered %v, want %v", test.wide, test.narrow, got, test.want)
		}
	}
}

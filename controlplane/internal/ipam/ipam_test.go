package ipam

import (
	"errors"
	"net/netip"
	"testing"
)

func TestAddresses(t *testing.T) {
	p, err := ParsePool("100.99.0.0/24", "fd12:3456:789a::/48")
	if err != nil {
		t.Fatal(err)
	}
	for ordinal, want := range map[uint32][2]string{1: {"100.99.0.1", "fd12:3456:789a::1"}, 254: {"100.99.0.254", "fd12:3456:789a::fe"}} {
		v4, v6, err := p.Addresses(ordinal)
		if err != nil || v4.String() != want[0] || v6.String() != want[1] {
			t.Errorf("%d: %s %s %v", ordinal, v4, v6, err)
		}
	}
	for _, ordinal := range []uint32{0, 255, 1 << 31} {
		if _, _, err := p.Addresses(ordinal); !errors.Is(err, ErrPoolExhausted) {
			t.Errorf("%d: %v", ordinal, err)
		}
	}
	for text, good := range map[string]bool{"100.99.0.7": true, "100.99.0.0": false, "100.99.0.255": false, "100.98.0.7": false, "::1": false} {
		if (p.Usable(netip.MustParseAddr(text)) == "") != good {
			t.Error(text)
		}
	}
}

func TestNewPool(t *testing.T) {
	seen := map[Pool]bool{}
	for range 50 {
		p := NewPool()
		if CheckRange(p.V4) != "" || p.V4.Bits() != 16 || p.V6.Bits() != 48 || p.V6.Addr().As16()[0] != 0xfd || p.V4.Masked() != p.V4 || p.V6.Masked() != p.V6 {
			t.Fatal(p)
		}
		seen[p] = true
	}
	if len(seen) < 45 {
		t.Fatalf("only %d of 50 pools differ", len(seen))
	}
}

func TestCheckRange(t *testing.T) {
	for text, good := range map[string]bool{
		"100.64.0.0/10": true, "100.64.0.0/9": false, "10.0.0.0/8": true, "172.16.0.0/12": true, "172.16.0.0/11": false, "192.168.4.0/24": true,
		"192.168.4.0/25": false, "127.0.0.0/8": false, "224.0.0.0/8": false, "8.0.0.0/8": false, "fd00::/48": false, "0.0.0.0/8": false,
	} {
		if got := CheckRange(netip.MustParsePrefix(text).Masked()); (got == "") != good {
			t.Errorf("%s: %q", text, got)
		}
	}
}

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// fakeAddressing is an interface in memory.
type fakeAddressing struct {
	have   []netip.Prefix
	up     bool
	noIPv6 bool // as when the machine has none
}

func (f *fakeAddressing) Addresses() ([]netip.Prefix, error) { return slices.Clone(f.have), nil }

func (f *fakeAddressing) Add(_ context.Context, address netip.Prefix) error {
	if f.noIPv6 && address.Addr().Is6() {
		return ErrNoIPv6
	}
	if !slices.Contains(f.have, address) {
		f.have = append(f.have, address)
	}
	return nil
}

func (f *fakeAddressing) Remove(_ context.Context, address netip.Prefix) error {
	f.have = slices.DeleteFunc(f.have, func(p netip.Prefix) bool { return p == address })
	return nil
}

func (f *fakeAddressing) Up(context.Context) error {
	f.up = true
	return nil
}

// conformsAddressing holds an implementation to the promises of the interface.
func conformsAddressing(t *testing.T, on addressing) {
	t.Helper()
	list := func(texts ...string) (out []netip.Prefix) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	for _, want := range [][]netip.Prefix{
		list("100.64.0.1/16", "fd00:64::1/64"),
		list("100.64.0.1/16", "fd00:64::1/64"), // nothing changes
		list("100.64.0.2/16", "fd00:64::1/64"),
		list("100.70.0.2/24"),
		list("100.70.0.2/20"), // another length of the same address
		list(),
		list("fd00:64::9/64", "100.64.0.9/16"),
	} {
		if err := applyAddresses(t.Context(), on, want); err != nil {
			t.Fatalf("apply %v: %v", want, err)
		}
		have, err := on.Addresses()
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(have, comparePrefixes)
		slices.SortFunc(want, comparePrefixes)
		if !slices.Equal(have, want) {
			t.Errorf("addresses %v, want %v", have, want)
		}
	}
	// What is so already is no error, nor is what is not.
	twice := netip.MustParsePrefix("100.64.0.9/16")
	if err := errors.Join(on.Add(t.Context(), twice), on.Remove(t.Context(), twice), on.Remove(t.Context(), twice)); err != nil {
		t.Error(err)
	}
}

func TestFakeAddressing(t *testing.T) { conformsAddressing(t, &fakeAddressing{}) }

// bsd understands the commands as ifconfig(8) and route(8) of macOS and
// FreeBSD describe them, and refuses every other.
type bsd struct {
	pointToPoint bool
	have         []netip.Prefix
	routes       []netip.Prefix
	up           bool
}

func (b *bsd) run(_ context.Context, program string, args ...string) (string, error) {
	failed := errors.New("exit status 1")
	line := strings.Join(args, " ")
	switch {
	case program == "ifconfig" && line == "utun7 up":
		b.up = true
		return "", nil
	case program == "ifconfig" && len(args) > 3 && args[0] == "utun7" && args[len(args)-1] == "alias":
		address, err := netip.ParsePrefix(args[2])
		if err != nil || args[1] != versionOf(address) {
			return "bad address", failed
		}
		far := args[3 : len(args)-1]
		if b.pointToPoint && address.Addr().Is4() != (len(far) == 1 && far[0] == address.Addr().String()) || !b.pointToPoint && len(far) != 0 {
			return "ifconfig: ioctl (SIOCAIFADDR): Destination address required", failed
		}
		if slices.Contains(b.have, address) {
			return "ifconfig: ioctl (SIOCAIFADDR): File exists", failed
		}
		b.have = append(b.have, address)
		return "", nil
	case program == "ifconfig" && len(args) == 4 && args[0] == "utun7" && args[3] == "-alias":
		addr := netip.MustParseAddr(args[2])
		i := slices.IndexFunc(b.have, func(p netip.Prefix) bool { return p.Addr() == addr && versionOf(p) == args[1] })
		if i < 0 {
			return "ifconfig: ioctl (SIOCDIFADDR): Can't assign requested address", failed
		}
		b.have = slices.Delete(b.have, i, i+1)
		return "", nil
	case program == "route" && len(args) == 7 && args[0] == "-q" && args[1] == "-n" && args[5] == "-interface" && args[6] == "utun7":
		return b.route(args[2], args[3], netip.MustParsePrefix(args[4]))
	}
	return "usage", fmt.Errorf("%s %s: %w", program, line, failed)
}

func (b *bsd) route(verb, family string, to netip.Prefix) (string, error) {
	failed := errors.New("exit status 1")
	i := slices.Index(b.routes, to)
	switch {
	case to != to.Masked() || family != "-"+versionOf(to):
		return "bad address", failed
	case verb == "add" && i < 0:
		b.routes = append(b.routes, to)
	case verb == "add":
		return "route: writing to routing socket: File exists", failed
	case i < 0:
		return "route: writing to routing socket: not in table", failed
	default:
		b.routes = slices.Delete(b.routes, i, i+1)
	}
	return "", nil
}

func versionOf(address netip.Prefix) string {
	if address.Addr().Is6() {
		return "inet6"
	}
	return "inet"
}

func TestIfconfigAddressing(t *testing.T) {
	for _, pointToPoint := range []bool{false, true} {
		system := &bsd{pointToPoint: pointToPoint}
		on := ifconfigAddressing{
			name: "utun7", pointToPoint: pointToPoint, run: system.run,
			addresses: func(string) ([]netip.Prefix, error) { return slices.Clone(system.have), nil },
		}
		conformsAddressing(t, on)
		if !system.up {
			t.Error("the interface is not up")
		}
		if want := []netip.Prefix{netip.MustParsePrefix("fd00:64::/64")}; !slices.Equal(system.routes, want) {
			t.Errorf("routes %v, want %v", system.routes, want)
		}
		on.name = "utun8"
		if err := on.Add(t.Context(), netip.MustParsePrefix("100.64.0.1/16")); err == nil || !strings.Contains(err.Error(), "ifconfig utun8 inet") {
			t.Errorf("an error without its command: %v", err)
		}
	}
}

func TestAddressesWithoutIPv6(t *testing.T) {
	on := &fakeAddressing{noIPv6: true}
	four, six := netip.MustParsePrefix("100.64.0.1/16"), netip.MustParsePrefix("fd00:64::1/64")
	err := applyAddresses(t.Context(), on, []netip.Prefix{six, four})
	if !errors.Is(err, ErrNoIPv6) || !slices.Equal(on.have, []netip.Prefix{four}) || !on.up {
		t.Errorf("without IPv6: %v, addresses %v, up %t", err, on.have, on.up)
	}
	on.noIPv6 = false
	if err := applyAddresses(t.Context(), on, []netip.Prefix{six, four}); err != nil || len(on.have) != 2 {
		t.Errorf("with IPv6 again: %v, addresses %v", err, on.have)
	}
}

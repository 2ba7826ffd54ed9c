package tunnel

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// ifconfigAddressing uses ifconfig(8) and route(8), whose arguments macOS and
// FreeBSD have kept for decades; the structures behind them differ. It is
// written apart from the systems, so that it is tested on every one.
type ifconfigAddressing struct {
	name string

	// pointToPoint names the own address as the far end too, which utun wants.
	pointToPoint bool

	addresses func(name string) ([]netip.Prefix, error)

	// run runs a program and returns what it printed.
	run func(ctx context.Context, program string, args ...string) (string, error)
}

func (i ifconfigAddressing) Addresses() ([]netip.Prefix, error) { return i.addresses(i.name) }

func (i ifconfigAddressing) Add(ctx context.Context, address netip.Prefix) error {
	args := []string{i.name, family(address), address.String()}
	if i.pointToPoint && address.Addr().Is4() {
		args = append(args, address.Addr().String())
	}
	if err := i.must(ctx, "File exists", "ifconfig", append(args, "alias")...); err != nil {
		return err
	}
	return i.must(ctx, "File exists", "route", i.route("add", address)...)
}

func (i ifconfigAddressing) Remove(ctx context.Context, address netip.Prefix) error {
	if err := i.must(ctx, "not in table", "route", i.route("delete", address)...); err != nil {
		return err
	}
	return i.must(ctx, "Can't assign requested address", "ifconfig", i.name, family(address), address.Addr().String(), "-alias")
}

func (i ifconfigAddressing) Up(ctx context.Context) error {
	return i.must(ctx, "", "ifconfig", i.name, "up")
}

// route leads the network of an address into the interface, or no longer.
func (i ifconfigAddressing) route(verb string, address netip.Prefix) []string {
	return []string{"-q", "-n", verb, "-" + family(address), address.Masked().String(), "-interface", i.name}
}

// must runs a program; a failure with that text means that it is so already.
func (i ifconfigAddressing) must(ctx context.Context, already, program string, args ...string) error {
	printed, err := i.run(ctx, program, args...)
	if err == nil || already != "" && strings.Contains(printed, already) {
		return nil
	}
	return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(printed))
}

func family(address netip.Prefix) string {
	if address.Addr().Is4() {
		return "inet"
	}
	return "inet6"
}

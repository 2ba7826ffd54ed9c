package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// streamLength is how long one TCP stream is measured: short, so that the two sides of a ratio see the same machine.
const streamLength = 2 * time.Second

// directTCP prints the throughput of one TCP stream between two agents on one LAN over that of unmodified wireguard-go
// on the same path. Both tunnels stand at the same time and are measured in turn.
func directTCP(ctx context.Context, c config) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n, err := newNetwork(ctx, c, lan)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	ours, iface, err := agentTunnel(ctx, n)
	if err != nil {
		return err
	}
	plain, err := plainTunnel(ctx, n, iface)
	if err != nil {
		return err
	}
	// The streams are measured in the order A B, B A, A B, so that a machine that becomes slower or faster favours nobody.
	var ratios, fast, reference []float64
	streams := []stream{{"between agents", netip.AddrPortFrom(ours, 5201), &fast}, {"through wireguard-go", netip.AddrPortFrom(plain, 5201), &reference}}
	for range max(21, 2*c.rounds) {
		for _, s := range streams {
			rate, err := throughput(ctx, n.a, n.b, s.to.String(), streamLength)
			if err != nil {
				return fmt.Errorf("%s: %w", s.what, err)
			}
			*s.rates = append(*s.rates, rate*8/1e6)
		}
		ratios = append(ratios, fast[len(fast)-1]/reference[len(reference)-1])
		slices.Reverse(streams)
	}
	spread("direct_tcp_ratio", ratios, "x")
	figure("direct_tcp_mbit_s", median(fast), "Mbit/s")
	figure("direct_tcp_reference_mbit_s", median(reference), "Mbit/s")
	return nil
}

// A stream is one way to send, and what was measured on it in Mbit/s.
type stream struct {
	what  string
	to    netip.AddrPort
	rates *[]float64
}

// agentTunnel brings two agents up, waits for their direct path, and returns the address of b and the name of its device.
// The agents end with ctx.
func agentTunnel(ctx context.Context, n *network) (netip.Addr, string, error) {
	b, err := n.machine(ctx, n.b, "b")
	if err != nil {
		return netip.Addr{}, "", err
	}
	a, err := n.machine(ctx, n.a, "a")
	if err != nil {
		return netip.Addr{}, "", err
	}
	if err := errors.Join(b.Up(ctx, n.server, n.server.SetupKeyFile), a.Up(ctx, n.server, n.server.SetupKeyFile)); err != nil {
		return netip.Addr{}, "", err
	}
	if out, err := a.Wattle(ctx, "ping", "machine-b", "--until-direct"); err != nil {
		return netip.Addr{}, "", fmt.Errorf("no direct path: %w\n%s", err, out)
	}
	return overlay(ctx, n.b)
}

// plainTunnel brings up unmodified wireguard-go beside the agents and returns the address of b.
func plainTunnel(ctx context.Context, n *network, agentDevice string) (netip.Addr, error) {
	mtu, err := deviceMTU(ctx, n.b, agentDevice)
	if err != nil {
		return netip.Addr{}, err
	}
	program, err := buildPlain(ctx, n.dir)
	if err != nil {
		return netip.Addr{}, err
	}
	overlayA, overlayB := netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")
	a, err := newPlainPeer(ctx, program, n.a, "plain0", overlayA, n.a.Addr)
	if err != nil {
		return netip.Addr{}, err
	}
	b, err := newPlainPeer(ctx, program, n.b, "plain1", overlayB, n.b.Addr)
	if err != nil {
		return netip.Addr{}, err
	}
	const port = 40000
	return overlayB, errors.Join(a.connect(ctx, b, port, mtu), b.connect(ctx, a, port, mtu))
}

// deviceMTU asks ip, since /sys shows the namespace in which it was mounted.
func deviceMTU(ctx context.Context, host *lab.Host, device string) (int, error) {
	out, err := host.Command(ctx, "ip", "-o", "link", "show", device).Output()
	if err != nil {
		return 0, fmt.Errorf("read the MTU of %s: %w", device, err)
	}
	fields := strings.Fields(string(out))
	for i, f := range fields {
		if f == "mtu" && i+1 < len(fields) {
			return strconv.Atoi(fields[i+1])
		}
	}
	return 0, fmt.Errorf("%s has no MTU", device)
}

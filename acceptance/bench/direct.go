package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// streamLength is how long one TCP stream is measured: short, so that the two sides of a ratio see the same machine.
const streamLength = 2 * time.Second

// directTCP prints the throughput of TCP between two agents on one LAN over that of unmodified wireguard-go on the same path:
// one stream, four at once, and one the other way; and the processor time per GiB of the first over the same. Both tunnels
// stand at the same time and are measured in turn.
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
	one, err := compare(ctx, max(21, 2*c.rounds), ours, plain, func(ctx context.Context, t *tunnelEnds) (float64, error) {
		return throughput(ctx, n.a, n.b, netip.AddrPortFrom(t.b, 5201).String())
	})
	if err != nil {
		return err
	}
	spread("direct_tcp_ratio", one.ratios, "x")
	figure("direct_tcp_mbit_s", median(one.ours), "Mbit/s")
	figure("direct_tcp_reference_mbit_s", median(one.plain), "Mbit/s")
	spread("direct_cpu_ratio", one.cpu, "x")
	four, err := compare(ctx, c.rounds, ours, plain, func(ctx context.Context, t *tunnelEnds) (float64, error) {
		return atOnce(4, func(i int) (float64, error) {
			return throughput(ctx, n.a, n.b, netip.AddrPortFrom(t.b, uint16(5210+i)).String())
		})
	})
	if err != nil {
		return err
	}
	spread("direct_tcp4_ratio", four.ratios, "x")
	reverse, err := compare(ctx, c.rounds, ours, plain, func(ctx context.Context, t *tunnelEnds) (float64, error) {
		return throughput(ctx, n.b, n.a, netip.AddrPortFrom(t.a, 5220).String())
	})
	if err != nil {
		return err
	}
	spread("direct_reverse_ratio", reverse.ratios, "x")
	return nil
}

// tunnelEnds are the overlay addresses of the two machines in one tunnel, and the processes that carry it.
type tunnelEnds struct {
	a, b netip.Addr
	pids []int
}

// spent is the processor time of both ends so far.
func (t *tunnelEnds) spent() (all time.Duration, err error) {
	for _, pid := range t.pids {
		one, failure := processor(pid)
		all, err = all+one, errors.Join(err, failure)
	}
	return all, err
}

// A comparison is what was measured in each round: rates in Mbit/s, and the first over the second.
type comparison struct{ ours, plain, ratios, cpu []float64 }

// compare measures two tunnels in the order A B, B A, A B, so that a machine that becomes slower or faster favours nobody.
func compare(ctx context.Context, rounds int, ours, plain *tunnelEnds, measure func(context.Context, *tunnelEnds) (float64, error)) (*comparison, error) {
	c := &comparison{}
	order := []*tunnelEnds{ours, plain}
	for range rounds {
		rate, cost := map[*tunnelEnds]float64{}, map[*tunnelEnds]float64{}
		for _, t := range order {
			before, err := t.spent()
			if err != nil {
				return nil, err
			}
			if rate[t], err = measure(ctx, t); err != nil {
				return nil, fmt.Errorf("to %s: %w", t.b, err)
			}
			after, err := t.spent()
			if err != nil {
				return nil, err
			}
			cost[t] = (after - before).Seconds() / rate[t] // of the same time for both
		}
		c.ours, c.plain = append(c.ours, rate[ours]*8/1e6), append(c.plain, rate[plain]*8/1e6)
		c.ratios = append(c.ratios, rate[ours]/rate[plain])
		c.cpu = append(c.cpu, cost[ours]/cost[plain])
		slices.Reverse(order)
	}
	return c, nil
}

// atOnce runs n measurements at the same time and adds up.
func atOnce(n int, measure func(i int) (float64, error)) (float64, error) {
	rates, errs := make([]float64, n), make([]error, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { rates[i], errs[i] = measure(i) })
	}
	running.Wait()
	var sum float64
	for _, rate := range rates {
		sum += rate
	}
	return sum, errors.Join(errs...)
}

// agentTunnel brings two agents up, waits for their direct path, and returns its ends and the name of the device of b. The
// agents end with ctx.
func agentTunnel(ctx context.Context, n *network) (*tunnelEnds, string, error) {
	b, err := n.machine(ctx, n.b, "b")
	if err != nil {
		return nil, "", err
	}
	a, err := n.machine(ctx, n.a, "a")
	if err != nil {
		return nil, "", err
	}
	if err := errors.Join(b.Up(ctx, n.server, n.server.SetupKeyFile), a.Up(ctx, n.server, n.server.SetupKeyFile)); err != nil {
		return nil, "", err
	}
	if out, err := a.Wattle(ctx, "ping", "machine-b", "--until-direct"); err != nil {
		return nil, "", fmt.Errorf("no direct path: %w\n%s", err, out)
	}
	ends := &tunnelEnds{pids: []int{a.PID(), b.PID()}}
	if ends.a, _, err = overlay(ctx, n.a); err != nil {
		return nil, "", err
	}
	var device string
	ends.b, device, err = overlay(ctx, n.b)
	return ends, device, err
}

// plainTunnel brings up unmodified wireguard-go beside the agents and returns its ends.
func plainTunnel(ctx context.Context, n *network, agentDevice string) (*tunnelEnds, error) {
	mtu, err := deviceMTU(ctx, n.b, agentDevice)
	if err != nil {
		return nil, err
	}
	program, err := buildPlain(ctx, n.dir)
	if err != nil {
		return nil, err
	}
	overlayA, overlayB := netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")
	a, err := newPlainPeer(ctx, program, n.a, "plain0", overlayA, n.a.Addr)
	if err != nil {
		return nil, err
	}
	b, err := newPlainPeer(ctx, program, n.b, "plain1", overlayB, n.b.Addr)
	if err != nil {
		return nil, err
	}
	const port = 40000
	ends := &tunnelEnds{a: overlayA, b: overlayB, pids: []int{a.cmd.Process.Pid, b.cmd.Process.Pid}}
	return ends, errors.Join(a.connect(ctx, b, port, mtu), b.connect(ctx, a, port, mtu))
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

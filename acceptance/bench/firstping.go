package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// firstPing prints the time from `wattle up` on a fresh machine, with the daemon running, to its first answered ping.
func firstPing(ctx context.Context, c config) error {
	for _, s := range []struct {
		name  string
		shape func(*lab.Lab) (a, b lab.Network, err error)
	}{
		{"lan", lan},
		{"nat", behind(lab.PortRestricted)},
		{"relay", behind(lab.Symmetric)},
		{"tcp443", behindHTTPS},
	} {
		c := c
		c.dir = fmt.Sprintf("%s/%s", c.dir, s.name)
		took, err := pingRounds(ctx, c, s.shape)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		figure("first_ping_"+s.name+"_ms", median(took), "ms")
		figure("first_ping_"+s.name+"_worst_ms", slices.Max(took), "ms")
	}
	return nil
}

func pingRounds(ctx context.Context, c config, shape func(*lab.Lab) (a, b lab.Network, err error)) (took []float64, err error) {
	n, err := newNetwork(ctx, c, shape)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	other, err := n.machine(ctx, n.b, "machine-b")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, other.Stop()) }()
	if err := other.Up(ctx, n.server, n.server.SetupKeyFile); err != nil {
		return nil, err
	}
	for round := range c.rounds {
		ms, err := pingOnce(ctx, n, fmt.Sprint("machine-a-", round))
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", round, err)
		}
		took = append(took, ms)
	}
	return took, nil
}

// pingOnce takes a fresh machine from `up` to its first answer, and away again.
func pingOnce(ctx context.Context, n *network, dir string) (ms float64, err error) {
	m, err := n.machine(ctx, n.a, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.Stop()) }()
	begin := time.Now()
	if err := m.Up(ctx, n.server, n.server.SetupKeyFile); err != nil {
		return 0, err
	}
	if out, err := m.Wattle(ctx, "ping", "machine-b", "-n", "1"); err != nil {
		return 0, fmt.Errorf("%w\n%s\nmachine's log:\n%s", err, out, m.Log())
	}
	ms = float64(time.Since(begin).Microseconds()) / 1000
	_, err = m.Wattle(ctx, "logout", "--delete")
	return ms, err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
	"github.com/wattlenet/wattle/acceptance/lab"
)

// Choices of ours.
const (
	// firstPings is the least number of rounds: a 95th of a hundred needs twenty.
	firstPings = 20

	// outlier is what no first ping should take, in milliseconds. The log of one that does goes to the standard error.
	outlier = 500
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
		figure("first_ping_"+s.name+"_p95_ms", percentile(took, 0.95), "ms")
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
	for round := range max(c.rounds, firstPings) {
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
	m, err := fleet.StartMachine(ctx, fleet.MachineConfig{
		Bin: n.bin, Dir: filepath.Join(n.dir, dir), On: n.a, Name: n.a.Name, Flags: []string{"--log-level", "debug"},
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.Stop()) }()
	begin := time.Now()
	if err := m.Up(ctx, n.server, n.server.SetupKeyFile); err != nil {
		return 0, err
	}
	up := time.Since(begin)
	if out, err := m.Wattle(ctx, "ping", "machine-b", "-n", "1"); err != nil {
		return 0, fmt.Errorf("%w\n%s\nmachine's log:\n%s", err, out, m.Log())
	}
	ms = float64(time.Since(begin).Microseconds()) / 1000
	if ms > outlier {
		fmt.Fprintf(os.Stderr, "%s: %.0f ms, of which %d for up; the machine's log:\n%s\n", dir, ms, up.Milliseconds(), m.Log())
	}
	_, err = m.Wattle(ctx, "logout", "--delete")
	return ms, err
}

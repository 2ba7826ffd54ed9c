package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
)

// pingSummary is the line in which ping counts.
var pingSummary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// rotation prints how many packets are lost while two machines replace their WireGuard keys in turn, with a packet each way
// every 5 ms, and how long one rotation takes from the command to the map.
func rotation(ctx context.Context, c config) (err error) {
	n, err := newNetwork(ctx, c, lan)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	var machines []*fleet.Machine
	for _, host := range []string{"machine-a", "machine-b"} {
		on := n.a
		if host == "machine-b" {
			on = n.b
		}
		m, err := n.machine(ctx, on, host)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.Stop()) }()
		if err := m.Up(ctx, n.server, n.server.SetupKeyFile); err != nil {
			return err
		}
		machines = append(machines, m)
	}
	if out, err := machines[0].Wattle(ctx, "ping", "machine-b", "--until-direct"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	to, _, err := overlay(ctx, n.b)
	if err != nil {
		return err
	}
	var took []float64
	sent, received, err := echoes(ctx, n, to.String(), func() error {
		for round := range c.rounds {
			begin := time.Now()
			if out, err := machines[round%2].Wattle(ctx, "key", "rotate"); err != nil {
				return fmt.Errorf("%w\n%s", err, out)
			}
			took = append(took, float64(time.Since(begin).Milliseconds()))
		}
		return nil
	})
	if err != nil {
		return err
	}
	figure("rotation_lost_packets", float64(sent-received), "packets")
	figure("rotation_sent_packets", float64(sent), "packets")
	figure("rotation_ms", median(took), "ms")
	return nil
}

// echoes sends an echo every 5 ms while event runs, and counts.
func echoes(ctx context.Context, n *network, to string, event func() error) (sent, received int, err error) {
	ping := n.a.Command(ctx, "ping", "-q", "-n", "-i", "0.005", to)
	var out strings.Builder
	ping.Stdout = &out
	if err := ping.Start(); err != nil {
		return 0, 0, fmt.Errorf("ping: %w", err)
	}
	failed := event()
	if err := errors.Join(failed, ping.Process.Signal(os.Interrupt)); err != nil {
		return 0, 0, errors.Join(err, ping.Wait())
	}
	if err := ping.Wait(); err != nil {
		return 0, 0, fmt.Errorf("ping: %w\n%s", err, out.String())
	}
	match := pingSummary.FindStringSubmatch(out.String())
	if match == nil {
		return 0, 0, fmt.Errorf("ping did not count:\n%s", out.String())
	}
	sent, err1 := strconv.Atoi(match[1])
	received, err2 := strconv.Atoi(match[2])
	return sent, received, errors.Join(err1, err2)
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
	"github.com/wattlenet/wattle/acceptance/lab"
)

// natMatrix prints, for every pair of kinds of access, the time from `wattle up` on a fresh machine to its first answered
// ping and to its final path: the direct one where both NATs allow it, else the verdict that there is none. It fails when a
// pair ends on another path than RFC 4787 and RFC 5128 foretell.
func natMatrix(ctx context.Context, c config) error {
	for i, left := range lab.Sides {
		for _, right := range lab.Sides[i:] {
			name := strings.ReplaceAll(left.Name+"_"+right.Name, "-", "_")
			err := natRow(ctx, c, name, lab.Direct(left, right), func(c config) (*network, error) {
				return newNetwork(ctx, c, func(l *lab.Lab) (a, b lab.Network, err error) {
					a, err1 := left.Build(l, "left")
					b, err2 := right.Build(l, "right")
					return a, b, errors.Join(err1, err2)
				})
			})
			if err != nil {
				return err
			}
		}
	}
	for _, shape := range lab.Shapes {
		name := natShape + strings.ReplaceAll(shape.Name, "-", "_")
		err := natRow(ctx, c, name, shape.Direct, func(c config) (*network, error) {
			return shapedNetwork(ctx, c, shape.Internet, shape.Build)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// natRounds is enough for a table: what is asked is which path, and its order of magnitude.
const natRounds = 3

// natShape begins the names of figures that are no pair of sides.
const natShape = "shape_"

// natRow prints the figures of one pair of machines.
func natRow(ctx context.Context, c config, name string, direct bool, build func(config) (*network, error)) error {
	c.dir = filepath.Join(c.dir, name)
	var first, final []float64
	for round := range min(c.rounds, natRounds) {
		a, b, err := natOnce(ctx, c, direct, build)
		if err != nil {
			return fmt.Errorf("%s: round %d: %w", name, round, err)
		}
		first, final = append(first, a), append(final, b)
	}
	path := "relayed"
	if direct {
		path = "direct"
	}
	figure("nat_"+name+"_first_ping_ms", median(first), "ms")
	figure("nat_"+name+"_"+path+"_ms", median(final), "ms")
	return nil
}

func natOnce(ctx context.Context, c config, direct bool, build func(config) (*network, error)) (first, final float64, err error) {
	n, err := build(c)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	machines := [2]*fleet.Machine{}
	for i, host := range []*lab.Host{n.b, n.a} {
		if machines[i], err = n.machine(ctx, host, host.Name); err != nil {
			return 0, 0, err
		}
		defer func(m *fleet.Machine) { err = errors.Join(err, m.Stop()) }(machines[i])
	}
	if err := machines[0].Up(ctx, n.server, n.server.SetupKeyFile); err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	since := func() float64 { return float64(time.Since(begin).Microseconds()) / 1000 }
	if err := machines[1].Up(ctx, n.server, n.server.SetupKeyFile); err != nil {
		return 0, 0, err
	}
	if out, err := machines[1].Wattle(ctx, "ping", "machine-b", "-n", "1"); err != nil {
		return 0, 0, fmt.Errorf("%w\n%s", err, out)
	}
	first = since()
	path, err := settled(ctx, machines[1])
	if err != nil {
		return 0, 0, err
	}
	if (path == "direct") != direct {
		return 0, 0, fmt.Errorf("the path is %s; a direct one is possible: %t", path, direct)
	}
	return first, since(), nil
}

// settled waits until the only peer of a machine is reached directly, or will not be.
func settled(ctx context.Context, m *fleet.Machine) (path string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		out, err := m.Wattle(ctx, "status", "--json")
		if err != nil {
			return "", err
		}
		var status struct {
			Peers []struct{ Path, Reason string }
		}
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			return "", err
		}
		for _, p := range status.Peers {
			if p.Path == "direct" || p.Path == "relayed" && p.Reason != "checking" {
				return p.Path, nil
			}
		}
	}
	return "", errors.New("the path has not settled in 30 s")
}

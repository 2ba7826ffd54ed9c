package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// restart prints how long no answer comes from a machine whose agent is killed and started again, while the control plane and
// its relay are away.
func restart(ctx context.Context, c config) error {
	return onLine(ctx, c, behind(lab.PortRestricted), func(n *network, one *contestant) error {
		other, err := turned(ctx, n, one)
		if err != nil {
			return err
		}
		if err := n.server.Kill(); err != nil {
			return err
		}
		return gaps(ctx, c, "restart", other, one, func() error { return errors.Join(one.first.Kill(), one.first.Start(ctx)) })
	})
}

// rebind prints how long no answer comes when the NAT of a machine forgets all connections and takes other ports: to the
// machine itself, whose next packet makes a new mapping, and to the other one, which has to wait for it.
func rebind(ctx context.Context, c config) error {
	var home *lab.Router
	shape := func(l *lab.Lab) (a, b lab.Network, err error) {
		home, err = l.Router("router-a", lab.PortRestricted, l.Internet())
		return home, l.Internet(), err
	}
	return onLine(ctx, c, shape, func(n *network, one *contestant) error {
		other, err := turned(ctx, n, one)
		if err != nil {
			return err
		}
		forget := func() error { return home.Rebind() }
		return errors.Join(gaps(ctx, c, "rebind_out", one, one, forget), gaps(ctx, c, "rebind_in", other, one, forget))
	})
}

// turned lets the other machine send.
func turned(ctx context.Context, n *network, one *contestant) (*contestant, error) {
	other := &contestant{a: n.b, b: n.a, first: one.other, other: one.first, to: one.to}
	address, _, err := overlay(ctx, n.a)
	if err != nil {
		return nil, err
	}
	other.to = netip.AddrPortFrom(address, one.to.Port())
	return other, nil
}

// gaps prints how long sender gets no answer around an event; before the next round one has a direct path again.
func gaps(ctx context.Context, c config, name string, sender, one *contestant, event func() error) error {
	var all []float64
	for round := range c.rounds {
		gap, err := pause(ctx, sender, event)
		if err == nil {
			err = direct(ctx, one)
		}
		if err != nil {
			return fmt.Errorf("%s, round %d: %w", name, round, err)
		}
		all = append(all, float64(gap/time.Millisecond))
	}
	figure(name+"_ms", median(all), "ms")
	figure(name+"_worst_ms", slices.Max(all), "ms")
	return nil
}

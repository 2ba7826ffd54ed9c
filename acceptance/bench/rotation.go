package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wattlenet/wattle/acceptance/fleet"
)

// rotation prints how many packets are lost while two machines replace their WireGuard keys in turn, with a packet each way
// every 5 ms, and how long one rotation takes from the command to the map.
func rotation(ctx context.Context, c config) error {
	return onLine(ctx, c, lan, func(n *network, one *contestant) error {
		packets, err := flood(ctx, n.a, one.to.Addr().String())
		if err != nil {
			return err
		}
		var took []float64
		var failed error
		for round := 0; round < c.rounds && failed == nil; round++ {
			begin := time.Now()
			if out, err := []*fleet.Machine{one.first, one.other}[round%2].Wattle(ctx, "key", "rotate"); err != nil {
				failed = fmt.Errorf("%w\n%s", err, out)
			}
			took = append(took, float64(time.Since(begin).Milliseconds()))
		}
		sent, lost, err := packets.interrupt()
		if err := errors.Join(failed, err); err != nil {
			return err
		}
		figure("rotation_lost_packets", float64(lost), "packets")
		figure("rotation_sent_packets", float64(sent), "packets")
		figure("rotation_ms", median(took), "ms")
		return nil
	})
}

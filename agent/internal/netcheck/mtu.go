package netcheck

import (
	"context"
	"net/netip"
	"sync"
	"syscall"
)

// sizes are the packets that a path is tried with, in bytes with the headers of
// IP and UDP: Ethernet, and what common tunnels leave of it.
var sizes = []int{1500, 1492, 1480, 1460, 1440, 1420, 1400, 1380, 1360, 1340, 1320, 1300, 1280}

// Headers of IP and UDP in bytes.
const (
	headers4 = 20 + 8
	headers6 = 40 + 8
)

// pathMTU is the largest packet that reaches a server whole; 0 where the system
// cannot forbid that packets are broken up.
func (c Config) pathMTU(ctx context.Context, network string, server netip.AddrPort) int {
	if !canForbidFragments {
		return 0
	}
	whole := c
	whole.Control = func(network, address string, raw syscall.RawConn) error {
		if c.Control != nil {
			if err := c.Control(network, address, raw); err != nil {
				return err
			}
		}
		return forbidFragments(network, raw)
	}
	conn, err := whole.listen(ctx, network)
	if err != nil {
		return 0
	}
	k := newClient(conn)
	defer k.close()
	headers := headers4
	if network == "udp6" {
		headers = headers6
	}
	var asking sync.WaitGroup
	fits := make([]bool, len(sizes))
	for i, size := range sizes {
		asking.Go(func() {
			_, err := k.ask(ctx, server, filled((size-headers)&^3))
			fits[i] = err == nil
		})
	}
	asking.Wait()
	for i, size := range sizes {
		if fits[i] {
			return size
		}
	}
	return 0
}

package lab

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// Ports that a router takes after Rebind: away from those that hosts choose, in
// slices so that no two calls give the same.
const (
	firstRebound = 20000
	reboundSlice = 1000
	reboundTimes = 9
)

// Rebind makes the router forget every connection, as one that has started
// again: whatever comes from outside finds nobody, and what goes out leaves from
// other ports than before. The router has to translate.
func (r *Router) Rebind() error {
	r.lab.mu.Lock()
	r.rebound++
	n := r.rebound % reboundTimes
	r.lab.mu.Unlock()
	first := firstRebound + n*reboundSlice
	rule := fmt.Sprintf("flush chain ip nat postrouting\nadd rule ip nat postrouting oifname \"wan\" meta l4proto { tcp, udp } masquerade to :%d-%d\nadd rule ip nat postrouting oifname \"wan\" masquerade\n",
		first, first+reboundSlice-1)
	return errors.Join(r.nft(rule), r.Do(func() error {
		// The package's own handle may hold a socket of another namespace.
		h, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("lab: open netlink on %s: %w", r.Name, err)
		}
		defer h.Close()
		if err := h.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
			return fmt.Errorf("lab: forget the connections of %s: %w", r.Name, err)
		}
		return nil
	}))
}

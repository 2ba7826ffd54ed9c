package route

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
)

// A Way is where a packet of the host goes.
type Way string

// The ways of packets.
const (
	WayHost    Way = "host"    // as without the agent
	WayTunnel  Way = "tunnel"  // into the tunnel
	WayRefused Way = "refused" // nowhere: unreachable
)

// A Fake is a Host in memory. Its zero value is a host with a default route.
type Fake struct {
	// Local are the subnets of the host, with the interface that leads there.
	Local map[netip.Prefix]string

	mu     sync.Mutex // guards all below
	config Config
	closed bool
}

// Reopen is the next Host of the same machine.
func (f *Fake) Reopen() *Fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = false
	return f
}

// Set keeps c.
func (f *Fake) Set(_ context.Context, c Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errors.New("route: the host is closed")
	}
	f.config = c
	return nil
}

// Config returns what was set last.
func (f *Fake) Config() Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.config
}

// Status names the local subnets that destinations overlap.
func (f *Fake) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	var s Status
	for subnet, name := range f.Local {
		for _, d := range f.config.Destinations {
			if !f.config.LocalToo && !whole(d) && d.Overlaps(subnet) {
				s.Local = append(s.Local, Local{Destination: d, Subnet: subnet, Interface: name})
			}
		}
	}
	return s
}

// Close forgets everything.
func (f *Fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.config, f.closed = Config{}, true
	}
	return nil
}

// Suspend forgets everything but what is refused.
func (f *Fake) Suspend() (refuses bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.config.Destinations, f.config.Carried = nil, nil
	if len(f.config.Refused) == 0 {
		f.config = Config{}
	}
	return len(f.config.Refused) > 0, nil
}

// Way returns where a packet to an address goes, with the agent's mark or without.
func (f *Fake) Way(to netip.Addr, marked bool) Way {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.config
	holds := func(list []netip.Prefix) (bits int) {
		bits = -1
		for _, p := range list {
			if p.Contains(to) {
				bits = max(bits, p.Bits())
			}
		}
		return bits
	}
	sameFamily := func(p netip.Prefix) bool { return p.Addr().Is4() == to.Is4() }
	if !slices.ContainsFunc(slices.Concat(c.Destinations, c.Refused), sameFamily) {
		return WayHost
	}
	if holds(c.Networks) >= 0 {
		return WayTunnel
	}
	for subnet := range f.Local {
		if subnet.Contains(to) && !c.LocalToo {
			return WayHost
		}
	}
	led, refused := holds(c.Destinations), holds(c.Refused)
	switch {
	case marked || led < 0 && refused < 0:
		return WayHost
	case led >= refused:
		return WayTunnel
	}
	return WayRefused
}

package route

import (
	"context"
	"sync/atomic"
)

// Unable is a Host that cannot be told of routes. It leaves the host alone and
// says so when it is asked for some.
type Unable struct {
	reason string
	leads  bool // destinations are reached all the same
	asked  atomic.Bool
}

// Stack returns the Host of a tunnel with a network stack of its own: all that
// the process sends is led by the tunnel, and nothing of others comes by.
func Stack() *Unable {
	return &Unable{reason: "a tunnel without an interface carries no traffic of others; start the daemon with --tunnel userspace on a machine that routes", leads: true}
}

// Refused returns the Host of a machine whose routes could not be opened.
func Refused(err error) *Unable {
	return &Unable{reason: "routes are not set, destinations outside of the network are not reached from here: " + err.Error()}
}

// Set notes whether anything was wanted that cannot be.
func (u *Unable) Set(_ context.Context, c Config) error {
	u.asked.Store(len(c.Carried) > 0 || !u.leads && len(c.Destinations)+len(c.Refused) > 0)
	return nil
}

// Status gives the reason, if something was wanted.
func (u *Unable) Status() Status {
	if !u.asked.Load() {
		return Status{}
	}
	return Status{Notes: []string{u.reason}}
}

// Suspend does nothing.
func (*Unable) Suspend() (refuses bool, err error) { return false, nil }

// Close does nothing.
func (*Unable) Close() error { return nil }

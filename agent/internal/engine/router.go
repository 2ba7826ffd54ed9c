package engine

import (
	"time"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/route"
)

// Choices of ours.
const (
	// lookAwake and lookIdle are how often the routers of destinations that have
	// several are looked at, with traffic and without.
	lookAwake = 200 * time.Millisecond
	lookIdle  = time.Second

	// calm is how long nothing was sent to a router when its flows have ended.
	calm = 10 * time.Second

	// recent is how long an answer of a router counts.
	recent = time.Minute

	// spares is how many other routers are kept awake beside the one in use, so
	// that the first packet after a move has a path.
	spares = 2
)

// routers chooses who carries the traffic to each destination. The loop of a
// link owns it.
type routers struct {
	paths  Paths
	now    func() time.Time
	choose route.Chooser
}

func newRouters(m *Machine) *routers { return &routers{paths: m.Paths, now: time.Now} }

// pick returns the peer for a destination.
func (r *routers) pick(d *destination) string {
	return r.choose.Choose(r.now(), d.key, d.candidates, r.see)
}

// see tells what is known of a peer.
func (r *routers) see(peer string) route.Sight {
	status, known := r.paths.Status(peer)
	if !known {
		return route.Sight{}
	}
	now := r.now()
	return route.Sight{
		Down: status.Lost, RTT: status.RTT,
		Answers: !status.Lost && now.Sub(status.Heard) < recent,
		Busy:    now.Sub(status.Sent) < calm,
	}
}

// down reports whether a peer was asked and does not answer.
func (r *routers) down(peer string) bool { return r.see(peer).Down }

// look reports whether a destination has another router now, and how soon to
// look again.
func (r *routers) look(wanted *desired) (moved bool, next time.Duration) {
	next = lookIdle
	for _, d := range wanted.destinations {
		if !d.led() || !d.matters() {
			continue
		}
		if r.pick(d) != d.router {
			moved = true
		}
		if r.tend(d) {
			next = lookAwake
		}
		if d.fallsOpen && r.down(d.router) != d.open {
			moved = true
		}
	}
	return moved, next
}

// tend keeps some other routers of a destination awake while the present one
// carries traffic: they are asked for their round trips, and ready.
func (r *routers) tend(d *destination) bool {
	status, known := r.paths.Status(d.router)
	if !known || status.Path == connectivity.PathIdle && !status.Lost {
		return false
	}
	woken := 0
	if status.Lost {
		r.paths.Wake(d.router) // asked again as long as it is wanted
	}
	for _, candidate := range d.candidates {
		if candidate.Peer != d.router && woken < spares {
			r.paths.Wake(candidate.Peer)
			woken++
		}
	}
	return true
}

// waiting lists, by destination, the routers that are better than the one in use.
func (r *routers) waiting(wanted *desired) map[string]string {
	better := map[string]string{}
	for _, d := range wanted.destinations {
		if next := r.choose.Waiting(d.key); next != "" {
			better[d.key] = next
		}
	}
	return better
}

// forget drops what is known about destinations that are gone.
func (r *routers) forget(wanted *desired) {
	there := make(map[string]bool, len(wanted.destinations))
	for _, d := range wanted.destinations {
		there[d.key] = true
	}
	r.choose.Keep(func(key string) bool { return there[key] })
}

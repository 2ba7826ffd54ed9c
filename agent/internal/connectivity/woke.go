package connectivity

import (
	"context"
	"time"
)

// Woke says that the machine has slept. Its clock stood still, so what seems
// young may be long gone elsewhere: sessions with peers, the mapping of a NAT,
// channel, permission and allocation on the relay. All that is in use is renewed,
// nothing is restarted.
func (p *Pathfinder) Woke() {
	p.relays.woke()
	p.post(func(ctx context.Context) {
		for _, pr := range p.pairs {
			if !pr.awake {
				continue
			}
			if p.cfg.Rekey != nil {
				p.cfg.Rekey(pr.uses)
			}
			pr.bound = time.Time{}
			p.useRelay(ctx, pr)
		}
	})
	p.NetworkChanged()
}

// woke makes keep refresh the permission too when it looks at the allocation.
func (r *relays) woke() {
	r.mu.Lock()
	r.stale = true
	r.mu.Unlock()
}

// slept reports whether woke was called since the last time.
func (r *relays) slept() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	stale := r.stale
	r.stale = false
	return stale
}

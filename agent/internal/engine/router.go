package engine

import (
	"time"

	"github.com/wattlenet/wattle/agent/internal/route"
)

// router chooses who carries the traffic to each destination. The loop of a
// link owns it.
type router struct {
	chooser route.Chooser
}

// choose returns the peer for a destination.
func (r *router) choose(d *destination) string {
	return r.chooser.Choose(time.Now(), d.key(), d.candidates, func(string) route.Sight { return route.Sight{} })
}

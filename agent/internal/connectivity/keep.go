package connectivity

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// A path that nobody waits for is looked for when its turn comes: each costs an
// ICE agent, a channel on the relay and a message through the control plane, and
// a network has thousands. The first few do not wait, which is all of them in most
// networks.
const (
	turnsPerSecond = 32
	turnsBurst     = 16
)

// turns are the peers that are looked at one after the other: those that a path is
// kept to and that nothing has woken yet, and awake ones without traffic after a
// change of the network. They come in no order, so that machines that begin
// together do not all turn to the same one first.
//
//	Keep, ModeAlways, network changed --add--> waiting --its turn--> woken, or looked at again
//	                                             |
//	                                             +--a packet, its hello--> woken at once
type turns struct {
	waiting map[string]bool // by ID; owned by Run
	budget  *rate.Limiter
}

func newTurns() turns {
	return turns{waiting: make(map[string]bool), budget: rate.NewLimiter(turnsPerSecond, turnsBurst)}
}

// Keep has a path to every peer kept open while there is nothing to send, or only
// to those of ModeAlways.
func (p *Pathfinder) Keep(every bool) {
	p.post(func(ctx context.Context) {
		if p.keep == every {
			return
		}
		if p.keep = every; every {
			for id := range p.directory.peers.Keys() {
				p.turns.waiting[id] = true
			}
			p.takeTurns(ctx, time.Now())
		}
	})
}

// always reports whether a path to the peer is kept open.
func (p *Pathfinder) always(peer Peer) bool { return p.keep || peer.Mode == ModeAlways }

// lookAgain looks at awake pairs after a change of the network, at those with
// traffic now.
func (p *Pathfinder) lookAgain(ctx context.Context) {
	for _, pr := range p.pairs {
		switch {
		case !pr.awake:
		case pr.busy():
			p.networkChanged(ctx, pr)
		default:
			pr.unlooked = true
			p.turns.waiting[pr.peer.ID] = true
		}
	}
	p.takeTurns(ctx, time.Now())
}

// takeTurns turns to as many waiting peers as there is budget for.
func (p *Pathfinder) takeTurns(ctx context.Context, now time.Time) {
	for id := range p.turns.waiting {
		peer, known := p.directory.peers.Get(id)
		pr := p.byID[id]
		wake := known && (pr == nil || !pr.awake) && p.always(peer)
		again := pr != nil && pr.awake && pr.unlooked
		if (wake || again) && !p.turns.budget.AllowN(now, 1) {
			return
		}
		switch {
		case wake:
			if pr = p.pairOfID(ctx, id); pr != nil {
				p.wake(ctx, pr)
			}
		case again:
			p.networkChanged(ctx, pr)
		}
		delete(p.turns.waiting, id) // and what its new pair has asked for
	}
}

package connectivity

import (
	"context"
	"time"
)

// force is the one kind of path to a peer that may be used; "" for what works.
func (p *Pathfinder) force(pr *pair) Path {
	switch pr.peer.Mode {
	case ModeAuto:
		return ""
	case ModeDirect:
		return PathDirect
	case ModeRelay:
		return PathRelayed
	}
	return p.cfg.Force
}

// looksDirect reports whether a direct path is wanted, by both sides as far as
// the peer's word is known.
func (p *Pathfinder) looksDirect(pr *pair) bool {
	return p.force(pr) != PathRelayed && !pr.declined
}

// changeMode looks for a path of the kinds that are wanted now. The hello tells
// the peer: it has no candidates where no direct path is looked for, and no
// relayed address where no relay is used.
func (p *Pathfinder) changeMode(ctx context.Context, pr *pair) {
	switch p.force(pr) {
	case PathRelayed:
		pr.direct, pr.suspect = nil, false
	case PathDirect:
		pr.relay, pr.bound = nil, time.Time{}
	}
	p.useRelay(ctx, pr)
	p.route(pr)
	p.startAttempt(pr)
	p.sendHello(ctx, pr)
}

// heedRefusal leaves the direct path to a peer that wants none any more.
func (p *Pathfinder) heedRefusal(pr *pair, h *hello) {
	if h.Ufrag != "" || pr.direct == nil || !pr.relayed.IsValid() || p.allocation == nil || p.force(pr) == PathDirect {
		return
	}
	pr.direct, pr.suspect = nil, false
	pr.rtt = 0
	p.route(pr)
}

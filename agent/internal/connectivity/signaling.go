package connectivity

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// handleHello takes the peer's word: where its relay is, and which attempt it
// makes. Both sides may begin at once; whoever learns the other's session
// second joins it.
func (p *Pathfinder) handleHello(ctx context.Context, pr *pair, h *hello, restarted bool) {
	p.log.Debug("hello received", "peer", pr.peer.ID, "attempt", h.Session, "answers", h.Answers, "restarted", restarted)
	if restarted {
		p.peerRestarted(pr)
		pr.direct, pr.relay = nil, nil
		p.route(pr)
	}
	p.heedKeys(pr, h.Keys)
	if h.Session != "" {
		p.heedPath(ctx, pr, h)
	}
	if pr.tellKeys { // no hello went back that would have said it
		p.sendKeys(ctx, pr)
	}
	p.publish(pr)
}

// heedPath takes what the peer says about the path.
func (p *Pathfinder) heedPath(ctx context.Context, pr *pair, h *hello) {
	if !pr.awake {
		p.rouse(pr)
	}
	pr.wanted = time.Now()
	if h.Access != AccessUnknown {
		pr.access = h.Access
	}
	if h.Relayed != pr.relayed {
		pr.relayed, pr.relay, pr.bound, pr.relayError = h.Relayed, nil, time.Time{}, ""
		if !h.Relayed.IsValid() {
			p.route(pr)
		}
	}
	p.useRelay(ctx, pr)
	p.agree(ctx, pr, h)
	p.heedRefusal(pr, h)
	pr.signalErr = ""
}

// agree makes the two sides work on the same attempt. An attempt is joined
// once: ICE has no second peer for the same credentials. So a hello that
// answers another attempt than ours of now can only be met with a new one, which
// says that it answers nobody and thus can be joined by any attempt.
func (p *Pathfinder) agree(ctx context.Context, pr *pair, h *hello) {
	a := pr.attempt
	open := a != nil && !a.done && a.joined == ""
	switch {
	case h.Session == pr.lastJoined: // more about an attempt that we know
		if a == nil || a.joined != h.Session {
			return
		}
		if !a.done && a.agent != nil {
			a.add(h.Candidates, p.allowed)
		} else {
			p.knock(ctx, pr)
		}
		if h.Answers != a.session { // our answer has not arrived yet
			p.sendHello(ctx, pr)
		}
		return
	case h.Answers != "" && open && h.Answers != a.session:
		return // it answers one that is over; ours of now is on its way
	case h.Answers != "" && (!open || h.Answers != a.session):
		p.startAttempt(pr)
		p.sendHello(ctx, pr)
		return
	case !open:
		p.startAttempt(pr)
	}
	p.join(ctx, pr, h)
	if h.Answers != pr.attempt.session {
		p.sendHello(ctx, pr)
	} else {
		pr.helloDelay = firstHello
	}
}

// peerRestarted forgets what only the peer's former process knew. An attempt
// that nobody has joined is as good as before.
func (p *Pathfinder) peerRestarted(pr *pair) {
	p.log.Info("peer has restarted", "peer", pr.peer.ID)
	if pr.attempt != nil && pr.attempt.joined != "" {
		p.endAttempt(pr)
	}
	pr.suspect = false
	pr.relayed, pr.bound, pr.lastJoined = netip.AddrPort{}, time.Time{}, ""
	pr.helloDelay = firstHello
	pr.parcel = parcel{}
	forgot := pr.keys.Forget()
	if forgot {
		p.mix(pr)
	}
	if p.cfg.Rekey != nil {
		p.cfg.Rekey(pr.uses)
	}
	if forgot && !pr.keys.Strict() && p.cfg.Handshake != nil {
		p.cfg.Handshake(pr.uses) // what the new process has asked for may have met the former secret
	}
}

// sendHello tells the peer all that we know now. A hello that still waits is
// replaced: only the newest matters.
func (p *Pathfinder) sendHello(ctx context.Context, pr *pair) {
	if pr.attempt == nil {
		p.startAttempt(pr)
	}
	a := pr.attempt
	h := &hello{Session: a.session, Answers: a.joined, Access: p.access()}
	if a.agent != nil {
		a.said = nil // the candidates may be others
		h.Ufrag, h.Password, h.Candidates = a.ufrag, a.password, a.local
		for _, mapped := range p.beyond(a) {
			if line, err := reflexiveCandidate(mapped, p.cfg.Bind.Port()); err == nil {
				h.Candidates = append(slices.Clip(h.Candidates), line)
			}
		}
	}
	if p.allocation != nil && p.force(pr) != PathDirect {
		h.Relayed = p.allocation.relayed
	}
	pr.pending = h
	pr.nextHello = time.Now().Add(pr.helloDelay)
	pr.helloDelay = min(2*pr.helloDelay, longestHello)
	p.flushHello(ctx, pr)
}

// beyond are the addresses at which routers may let peers in to an attempt of
// this machine: those that servers see, and the one that the gateway forwards.
func (p *Pathfinder) beyond(a *attempt) []netip.AddrPort {
	var list []netip.AddrPort
	for _, addr := range append(p.outside.addresses(), p.mapping.External) {
		if addr.IsValid() && !slices.Contains(a.addrs, addr) && !slices.Contains(list, addr) {
			list = append(list, addr)
		}
	}
	return list
}

func (p *Pathfinder) flushHello(ctx context.Context, pr *pair) {
	if pr.sending || pr.pending == nil {
		return
	}
	h := pr.pending
	h.Keys, pr.tellKeys = pr.keys.Message(), false
	p.log.Debug("hello sent", "peer", pr.peer.ID, "attempt", h.Session, "answers", h.Answers, "relayed", h.Relayed.String())
	message, err := h.encode()
	pr.pending = nil
	var box []byte
	if err == nil {
		box, err = pr.seal.seal(message)
	}
	if err != nil {
		p.log.Warn("hello not sent", "peer", pr.peer.ID, "error", err.Error())
		return
	}
	pr.sending = true
	id := pr.peer.ID
	p.task(func() {
		limited, cancel := context.WithTimeout(ctx, signalLimit)
		defer cancel()
		err := p.cfg.Signal(limited, id, box)
		p.post(func(ctx context.Context) {
			pr.sending, pr.undelivered = false, err != nil
			if h.Session != "" {
				pr.signalErr = ""
			}
			if err != nil && ctx.Err() == nil {
				// tickPair repeats it, and passes along a path what is about keys.
				if h.Session != "" {
					pr.signalErr = err.Error()
				}
				p.log.Debug("signal not delivered", "peer", id, "error", err.Error())
			}
			p.flushHello(ctx, pr)
		})
	})
}

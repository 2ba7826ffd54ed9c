package connectivity

import (
	"context"
	"net/netip"
	"time"
)

// handleHello takes the peer's word: where its relay is, and which attempt it
// makes. Both sides may begin at once; whoever learns the other's session
// second joins it.
func (p *Pathfinder) handleHello(ctx context.Context, pr *pair, h *hello, restarted bool) {
	if restarted {
		p.peerRestarted(pr)
	}
	if !pr.awake {
		p.rouse(pr)
	}
	pr.wanted = time.Now()
	if h.Relayed != pr.relayed {
		pr.relayed, pr.relay, pr.bound = h.Relayed, nil, time.Time{}
		if !h.Relayed.IsValid() {
			p.route(pr)
		}
	}
	p.useRelay(ctx, pr)

	a := pr.attempt
	switch {
	case a == nil || a.done:
		if a != nil && h.Session == pr.lastJoined {
			break // more about an attempt that has ended
		}
		p.startAttempt(ctx, pr)
		p.join(ctx, pr, h)
	case a.joined == h.Session:
		if a.agent != nil {
			a.add(h.Candidates, p.allowed)
		}
	case h.Answers != "" && h.Answers != a.session:
		// It answers an attempt of ours that is over. Ours of now is on its way.
		return
	case a.joined == "":
		p.join(ctx, pr, h)
	default: // the peer has begun anew
		p.startAttempt(ctx, pr)
		p.join(ctx, pr, h)
	}
	if h.Answers != pr.attempt.session {
		p.sendHello(ctx, pr)
	} else {
		pr.helloDelay = firstHello
	}
	pr.signalErr = ""
	p.publish(pr)
}

// peerRestarted forgets what only the peer's former process knew.
func (p *Pathfinder) peerRestarted(pr *pair) {
	p.endAttempt(pr)
	pr.direct, pr.relay, pr.suspect = nil, nil, false
	pr.relayed, pr.bound, pr.lastJoined = netip.AddrPort{}, time.Time{}, ""
	if p.cfg.Rekey != nil {
		p.cfg.Rekey(pr.peer.PublicKey)
	}
	p.route(pr)
}

// sendHello tells the peer all that we know now. A hello that still waits is
// replaced: only the newest matters.
func (p *Pathfinder) sendHello(ctx context.Context, pr *pair) {
	if pr.attempt == nil {
		p.startAttempt(ctx, pr)
	}
	a := pr.attempt
	h := &hello{Session: a.session, Answers: a.joined}
	if a.agent != nil {
		h.Ufrag, h.Password, h.Candidates = a.ufrag, a.password, a.local
		if p.mapped.IsValid() {
			if line, err := reflexiveCandidate(p.mapped, p.cfg.Bind.Port()); err == nil {
				h.Candidates = append(h.Candidates[:len(h.Candidates):len(h.Candidates)], line)
			}
		}
	}
	if p.allocation != nil && p.cfg.Force != PathDirect {
		h.Relayed = p.allocation.relayed
	}
	pr.pending = h
	pr.nextHello = time.Now().Add(pr.helloDelay)
	pr.helloDelay = min(2*pr.helloDelay, longestHello)
	p.flushHello(ctx, pr)
}

func (p *Pathfinder) flushHello(ctx context.Context, pr *pair) {
	if pr.sending || pr.pending == nil {
		return
	}
	message, err := pr.pending.encode()
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
			pr.sending = false
			pr.signalErr = ""
			if err != nil && ctx.Err() == nil {
				// tickPair repeats it.
				pr.signalErr = err.Error()
				p.log.Debug("signal not delivered", "peer", id, "error", err.Error())
			}
			p.flushHello(ctx, pr)
		})
	})
}

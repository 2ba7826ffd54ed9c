package connectivity

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/ice/v3"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// retryAttempts is when ICE is tried again after a failure, while the pair is awake.
var retryAttempts = []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute}

// tryDirect makes addr the peer's direct path if the peer answers from there;
// in place of another one only with replace.
func (p *Pathfinder) tryDirect(ctx context.Context, pr *pair, addr netip.AddrPort, replace bool) {
	path := p.cfg.Bind.DirectPath(addr)
	probe := pr.probe
	p.task(func() {
		rtt, err := p.probe(ctx, probe, path, probeLimit)
		if err != nil {
			return
		}
		p.post(func(context.Context) { p.answeredAt(pr, path, rtt, replace) })
	})
}

// answeredAt takes the answer to tryDirect, if a direct path is wanted yet.
func (p *Pathfinder) answeredAt(pr *pair, path *tunnel.Path, rtt time.Duration, replace bool) {
	if pr.awake && p.looksDirect(pr) && (replace || pr.direct == nil) {
		p.takeDirect(pr, path, "", rtt)
	}
}

// takeDirect makes path the pair's direct path. What is still under way on the
// old one is received all the same: packets are known by their session.
func (p *Pathfinder) takeDirect(pr *pair, path *tunnel.Path, local string, rtt time.Duration) {
	if pr.direct == nil || pr.direct.Addr() != path.Addr() {
		pr.direct = path
	}
	pr.direct.MarkReceived()
	if pr.gone == path.Addr() {
		p.learnKeepalive(pr) // it was there all the time
	}
	pr.gone = netip.AddrPort{}
	pr.remembered = path.Addr()
	pr.suspect = false
	pr.rtt = rtt
	pr.localAddress, pr.remoteAddr = local, path.Addr().String()
	pr.failures = 0
	pr.directError = ""
	p.route(pr)
	p.post(func(ctx context.Context) {
		if pr.direct == path {
			p.watchWidth(ctx, pr, time.Now())
		}
	})
}

// startAttempt begins a new try for a direct path. The hello that follows
// carries it to the peer.
func (p *Pathfinder) startAttempt(pr *pair) {
	p.endAttempt(pr)
	if p.force(pr) == PathRelayed {
		pr.attempt = &attempt{session: newSession(), began: time.Now()}
		return
	}
	addrs, err := localAddresses(&p.cfg, p.cfg.Bind.Port())
	if err == nil {
		pr.attempt, err = newAttempt(p.checks, addrs, p.cfg.Loopback)
	}
	if err != nil {
		p.log.Warn("no direct path will be tried", "peer", pr.peer.ID, "error", err.Error())
		pr.attempt = &attempt{session: newSession(), began: time.Now()}
		pr.directError = err.Error()
	}
	pr.lastAttempt = pr.attempt.began
}

func (p *Pathfinder) endAttempt(pr *pair) {
	if old := pr.attempt; old != nil {
		old.done = true
		pr.attempt = nil
		p.task(old.close)
	}
}

// join makes the peer's attempt and ours one and starts the checks.
func (p *Pathfinder) join(ctx context.Context, pr *pair, h *hello) {
	a := pr.attempt
	a.joined, pr.lastJoined = h.Session, h.Session
	pr.declined = h.Ufrag == ""
	if a.agent == nil || h.Ufrag == "" {
		a.done = true
		return
	}
	a.add(h.Candidates, p.allowed)
	pr.captured = false
	leads := p.cfg.Bind.PublicKey().Less(pr.peer.PublicKey)
	p.task(func() {
		selected, err := a.check(ctx, leads, h.Ufrag, h.Password)
		checked := a.inspect()
		p.post(func(ctx context.Context) {
			a.took, a.checked, a.said = time.Since(a.began), checked, nil
			p.attemptDone(ctx, pr, a, selected, err)
		})
	})
}

// captured reports whether packets to addr would leave through the tunnel that
// they are to carry.
func (p *Pathfinder) captured(addr netip.AddrPort) bool {
	source := sourceTo(addr, p.cfg.Mark)
	return source.IsValid() && !p.allowed(source)
}

func (p *Pathfinder) allowed(addr netip.Addr) bool {
	return p.cfg.Address == nil || p.cfg.Address(addr)
}

func (p *Pathfinder) attemptDone(ctx context.Context, pr *pair, a *attempt, selected *ice.CandidatePair, err error) {
	if pr.attempt != a || !pr.awake {
		return
	}
	a.done = true
	var remote netip.Addr
	if err == nil {
		remote, err = netip.ParseAddr(selected.Remote.Address())
	}
	if err != nil {
		pr.directError = err.Error()
		pr.captured = slices.ContainsFunc(a.remote, func(o Offer) bool { return p.captured(o.Address) })
		p.scheduleAttempt(pr)
		p.task(a.close)
		p.publish(pr)
		return
	}
	addr := netip.AddrPortFrom(remote.Unmap(), uint16(selected.Remote.Port()))
	path := p.cfg.Bind.DirectPath(addr)
	p.takeDirect(pr, path, selected.Local.String(), 0)
	pr.remoteAddr = selected.Remote.String()
	p.publish(pr)
	p.log.Info("direct path found", "peer", pr.peer.ID, "remote", addr.String(), "took", time.Since(a.began).String())
	p.task(func() {
		timer := time.NewTimer(lingering)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		a.close()
	})
	if pr.direct == path && !pr.asking {
		p.ask(ctx, pr)
	}
}

func (p *Pathfinder) scheduleAttempt(pr *pair) {
	step := min(pr.failures, len(retryAttempts)-1)
	pr.failures++
	pr.nextAttempt = time.Now().Add(retryAttempts[step])
	if !p.cfg.Bind.PublicKey().Less(pr.peer.PublicKey) {
		pr.nextAttempt = pr.nextAttempt.Add(2 * time.Second) // the other side goes first
	}
}

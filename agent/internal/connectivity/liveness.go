package connectivity

import (
	"cmp"
	"context"
	"time"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// tickPair looks at an awake pair ten times a second. What counts is evidence:
// data sent and nothing received.
func (p *Pathfinder) tickPair(ctx context.Context, pr *pair, now time.Time) {
	if p.unused(pr, now) {
		p.sleep(pr)
		return
	}
	if pr.direct != nil {
		p.watchDirect(ctx, pr)
	}
	if pr.direct != nil {
		p.watchWidth(ctx, pr, now)
	}
	if pr.relay != nil && (pr.direct == nil || pr.suspect) && pr.relay.Unanswered() > relayDoubt {
		p.relays.question(pr.relay.Relay())
	}
	if pr.relay != nil && now.Sub(pr.bound) > rebindChannel {
		p.useRelay(ctx, pr)
	}
	p.repeat(ctx, pr, now)
	p.stepKeys(ctx, pr, now)
	p.watchPeer(ctx, pr, now)
	p.publish(pr)
}

// unused reports whether nothing has left for long, or nothing could.
func (p *Pathfinder) unused(pr *pair, now time.Time) bool {
	if p.always(pr.peer) {
		return false
	}
	quiet := now.Sub(pr.wanted)
	for _, path := range []*tunnel.Path{pr.direct, pr.relay} {
		if path == nil {
			continue
		}
		if sent, ever := path.Sent(); ever {
			quiet = min(quiet, sent)
		}
	}
	if pr.direct == nil && pr.relay == nil {
		return quiet > deadAfter && !pr.endpoint.Handshaking()
	}
	return quiet > cmp.Or(p.cfg.IdleAfter, idleAfter)
}

// watchDirect doubts a silent path and keeps a quiet one open.
func (p *Pathfinder) watchDirect(ctx context.Context, pr *pair) {
	switch unanswered := pr.direct.Unanswered(); {
	case pr.suspect && unanswered > silence:
		p.doubt(ctx, pr)
	case !pr.suspect && unanswered > pr.patience():
		p.question(ctx, pr)
	case pr.suspect && !pr.deciding: // answered meanwhile
		pr.suspect = false
		p.route(pr)
	case !pr.asking:
		if age, ever := pr.direct.Received(); !ever || age > cmp.Or(pr.keepalive, keepaliveAge) {
			p.ask(ctx, pr)
		}
	}
}

// patience is how long the direct path may say nothing to what is sent before
// it is asked: short where answers came until now, long where the last thing
// that came was the answer to such a question.
func (pr *pair) patience() time.Duration {
	age, ever := pr.direct.Received()
	if !ever || !pr.calmed.IsZero() && age >= time.Since(pr.calmed)-answerSlack {
		return silence
	}
	return max(hush, roundTrips*pr.rtt)
}

// question asks a path that has fallen silent for a sign of life. Nothing is
// sent twice yet: most silence is that of a peer with nothing to say.
func (p *Pathfinder) question(ctx context.Context, pr *pair) {
	if pr.hushed {
		return
	}
	pr.hushed = true
	path := pr.direct
	limit := max(hush, roundTrips*pr.rtt)
	laden, ever := path.Laden()
	large := ever && laden <= path.Unanswered()
	probe := pr.probe
	p.task(func() {
		rtt, err := p.probe(ctx, probe, path, limit)
		p.post(func(ctx context.Context) {
			pr.hushed = false
			switch {
			case pr.direct != path || ctx.Err() != nil:
			case err == nil:
				pr.rtt, pr.calmed = rtt, time.Now()
				if large {
					p.questionWidth(ctx, pr) // small packets pass
				}
			case path.Unanswered() > limit:
				p.doubt(ctx, pr)
			}
		})
	})
}

// ask probes the direct path: for the round trip, and to keep it open. No
// answer is a reason to doubt.
func (p *Pathfinder) ask(ctx context.Context, pr *pair) {
	pr.asking = true
	path := pr.direct
	probe := pr.probe
	p.task(func() {
		rtt, err := p.probe(ctx, probe, path, askLimit)
		p.post(func(ctx context.Context) {
			pr.asking = false
			switch {
			case pr.direct != path || ctx.Err() != nil:
			case err == nil:
				pr.rtt = rtt
				p.publish(pr)
			default:
				p.doubt(ctx, pr)
			}
		})
	})
}

// doubt sends copies through the relay while probes decide whether the direct
// path lives.
func (p *Pathfinder) doubt(ctx context.Context, pr *pair) {
	if !pr.suspect {
		pr.suspect = true
		pr.pause = pr.direct.Pause()
		p.route(pr)
		if pr.pause > leastKeepalive {
			p.sendHello(ctx, pr) // a NAT may have forgotten us both: the peer knocks from its side
		}
	}
	if pr.deciding {
		return
	}
	pr.deciding = true
	path := pr.direct
	probe := pr.probe
	p.task(func() {
		rtt, err := p.probe(ctx, probe, path, probeLimit)
		p.post(func(ctx context.Context) {
			pr.deciding = false
			if pr.direct != path || ctx.Err() != nil {
				return
			}
			age, ever := path.Received()
			switch {
			case err == nil:
				pr.rtt, pr.suspect = rtt, false
				p.learnKeepalive(pr)
				p.route(pr)
			case !ever || age >= probeLimit: // nor did data arrive on it meanwhile
				p.directLost(ctx, pr)
			}
		})
	})
}

// learnKeepalive asks more often from now on on a path that was alive but had to
// be opened again: some router on it forgets sooner than we kept it open.
func (p *Pathfinder) learnKeepalive(pr *pair) {
	if pr.pause <= leastKeepalive {
		return
	}
	pr.keepalive = max(leastKeepalive, min(cmp.Or(pr.keepalive, keepaliveAge), pr.pause/2))
	p.log.Debug("mappings on the path are short", "peer", pr.peer.ID, "pause", pr.pause.String(), "keepalive", pr.keepalive.String())
	pr.pause = 0
}

// knock opens the routers of this machine towards the peer, which is awake and
// says hello about an attempt that is over: what it sends may not arrive.
func (p *Pathfinder) knock(ctx context.Context, pr *pair) {
	if pr.direct != nil && !pr.asking {
		p.ask(ctx, pr)
	}
	if pr.relay != nil && time.Since(pr.bound) > leastKeepalive {
		pr.bound = time.Time{} // the request that binds the channel anew also opens the way from the relay
		p.useRelay(ctx, pr)
	}
}

// directLost falls back to the relay. Without one the path stays in use: it is
// all there is, and it may come back.
func (p *Pathfinder) directLost(ctx context.Context, pr *pair) {
	running := pr.attempt != nil && !pr.attempt.done
	if pr.relay != nil {
		p.log.Info("direct path lost", "peer", pr.peer.ID, "remote", pr.direct.Addr().String())
		pr.gone = pr.direct.Addr()
		pr.direct, pr.suspect = nil, false
		pr.directError = "the direct path went silent"
		pr.rtt = 0
		p.route(pr)
	} else if time.Now().Before(pr.nextAttempt) {
		return
	}
	if !running {
		p.scheduleAttempt(pr) // also when this one fails silently
		p.startAttempt(pr)
		p.sendHello(ctx, pr)
	}
}

// repeat says hello again while the peer has not answered or cannot be reached,
// and begins the next attempt when its time has come.
func (p *Pathfinder) repeat(ctx context.Context, pr *pair, now time.Time) {
	if pr.sending || now.Before(pr.nextHello) {
		return
	}
	a := pr.attempt
	switch {
	case a == nil, a.joined == "":
		p.sendHello(ctx, pr)
		p.tryRemembered(ctx, pr)
	case !a.done && now.Sub(a.began) > 2*attemptLimit:
		a.done = true // joined, but the checks never ended
	case a.done && pr.direct == nil && (pr.relay == nil || neglected(pr.relay)):
		// The peer may have restarted or moved to another relay.
		p.startAttempt(pr)
		p.sendHello(ctx, pr)
	case a.done && pr.direct == nil && now.After(pr.nextAttempt) && p.force(pr) != PathRelayed && !pr.nextAttempt.IsZero():
		p.startAttempt(pr)
		p.sendHello(ctx, pr)
	}
}

// neglected reports whether packets leave on a path all the time and nothing
// comes back. The last packet of an exchange waits for no answer.
func neglected(path *tunnel.Path) bool {
	sent, _ := path.Sent()
	return path.Unanswered() > relaySilence && sent < relaySilence/2
}

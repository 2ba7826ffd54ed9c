package connectivity

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

const (
	integritySize  = 24 // of MESSAGE-INTEGRITY (RFC 8489, section 14.5)
	attributeStart = 4

	headers4 = 20 + 8 // of IP and UDP, in bytes
	headers6 = 40 + 8
)

// Choices of ours.
const (
	proofAge   = 10 * time.Second // of a path with large packets on it: a link may have become narrower
	proofPause = time.Second      // between two proofs for other reasons
	narrowAge  = time.Minute      // of a narrow path that is all there is: a link may have become wider

	// leastCarried is the narrowest path that is looked for: Linux heeds nothing
	// below 552 bytes (ip(7), route/min_pmtu).
	leastCarried = 560
)

var errNarrow = errors.New("the direct path carries no full packet: a link on its way is narrower than the tunnel")

// A direct path that lets small messages through and loses full packets, with
// nobody to say so, would stall every stream on it: a link on the way is narrower
// than the tunnel, and whoever drops has lost its ICMP. So before a new path
// carries packets alone it carries a probe and an answer of full size; until
// then the relay has copies. While it carries large packets it is asked again, at
// once when they meet with silence and small ones do not: a way may lead over
// other links all of a sudden.
//
//	new path --full probe answered--> wide: alone
//	         --one of 1,280 bytes is--> wide: alone, its MTU is told to senders
//	         --only a small one is--> narrow: the relay, reason mtu; without a relay
//	                                  its MTU is told to who sends by IPv4
//	wide --large packets, silence, full probe lost--> as a new path
//	wide --the kernel has heard of a narrow link--> wide: alone, its MTU is told

// watchWidth asks the direct path whether it carries full packets, where that is
// not known or may have changed.
func (p *Pathfinder) watchWidth(ctx context.Context, pr *pair, now time.Time) {
	path, age := pr.direct, now.Sub(pr.proved)
	laden, ever := path.Laden()
	switch {
	case pr.unproven():
		if pr.narrow == path.Addr() && pr.relay == nil && age < narrowAge {
			return
		}
	case path.Refused():
		p.fit(pr, p.known(path.Addr()))
		return
	case !ever || laden > silence || age < proofAge:
		return
	}
	p.proveWidth(ctx, pr)
}

// questionWidth asks a path again that was wide, for a reason.
func (p *Pathfinder) questionWidth(ctx context.Context, pr *pair) {
	if !pr.unproven() && time.Since(pr.proved) > proofPause {
		p.proveWidth(ctx, pr)
	}
}

// proveWidth finds out what the direct path carries.
func (p *Pathfinder) proveWidth(ctx context.Context, pr *pair) {
	if pr.proving {
		return
	}
	pr.proving = true
	path, probe, least := pr.direct, pr.probe, tunnel.DefaultMTU
	if pr.relay == nil {
		least = leastCarried
	}
	doubt := func() {
		p.post(func(context.Context) {
			if pr.direct == path && pr.wide == path {
				pr.wide = nil // until it is known the relay has copies
				p.route(pr)
			}
		})
	}
	p.task(func() {
		carries, sure := p.measure(ctx, probe, path, least, doubt)
		p.post(func(ctx context.Context) {
			pr.proving, pr.proved = false, time.Now()
			if pr.awake && ctx.Err() == nil && pr.direct == path && sure { // else the next look asks again
				p.judgeWidth(pr, carries)
			}
		})
	})
}

// measure returns the largest packet of the overlay that a path carries, in
// bytes, as far as it is at least least; 0: it carries none of these. It is not
// sure where nothing at all is answered. Doubt is called when the first probe is lost.
func (p *Pathfinder) measure(ctx context.Context, pb *prober, path *tunnel.Path, least int, doubt func()) (carries int, sure bool) {
	passes := func(packet int) bool {
		_, err := p.inquire(ctx, pb, path, probeLimit, padded{packet + tunnel.Overhead})
		return err == nil
	}
	full := p.cfg.MTU
	if passes(full) {
		return full, true
	}
	doubt()
	if _, err := p.probe(ctx, pb, path, probeLimit); err != nil {
		return 0, false
	}
	// A path that loses much may have lost all four; a narrow one loses them again.
	if passes(full) {
		return full, true
	}
	if least >= full || !passes(least) {
		return 0, ctx.Err() == nil
	}
	low, high := least, full
	for high-low > tunnel.PaddedTo {
		if middle := whole((low + high) / 2); passes(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low, ctx.Err() == nil
}

// whole rounds down to what is not padded.
func whole(packet int) int { return packet - packet%tunnel.PaddedTo }

// judgeWidth decides what becomes of the direct path.
func (p *Pathfinder) judgeWidth(pr *pair, carries int) {
	switch {
	case carries >= p.cfg.MTU: // or it was broken up outside of the tunnel
		pr.wide, pr.narrow = pr.direct, netip.AddrPort{}
		p.fit(pr, p.known(pr.direct.Addr()))
	case carries >= tunnel.DefaultMTU:
		pr.wide, pr.narrow = pr.direct, netip.AddrPort{}
		p.fit(pr, carries)
	default:
		p.tooNarrow(pr, carries)
	}
	p.route(pr)
}

// known returns the largest packet that the kernel knows the path to carry
// without being broken up; 0: as large as any.
func (p *Pathfinder) known(addr netip.AddrPort) int {
	headers := headers4
	if addr.Addr().Is6() {
		headers = headers6
	}
	bytes := knownMTU(addr, p.cfg.Mark) - headers - tunnel.Overhead
	if bytes < leastCarried || bytes >= p.cfg.MTU {
		return 0
	}
	return whole(bytes)
}

// fit makes the senders of the machine keep to what the direct path carries.
func (p *Pathfinder) fit(pr *pair, bytes int) {
	if pr.direct.MTU() != bytes {
		p.log.Info("direct path carries packets of another size", "peer", pr.peer.ID, "remote", pr.direct.Addr().String(), "bytes", bytes)
	}
	pr.direct.SetMTU(bytes)
	p.publish(pr)
}

// tooNarrow leaves a path to the relay. Without one it stays in use, with what it
// carries.
func (p *Pathfinder) tooNarrow(pr *pair, carries int) {
	if pr.narrow != pr.direct.Addr() {
		p.log.Info("direct path carries no full packet", "peer", pr.peer.ID, "remote", pr.direct.Addr().String(), "bytes", p.cfg.MTU)
	}
	pr.narrow = pr.direct.Addr()
	if pr.relay == nil {
		p.fit(pr, carries)
		return
	}
	pr.relay.Forgive()
	pr.direct, pr.suspect = nil, false
	pr.rtt = 0
	pr.directError = errNarrow.Error()
	pr.failures = len(retryAttempts) - 1 // links seldom change
	p.scheduleAttempt(pr)
}

// unproven reports whether the direct path has yet to show that it is wide.
func (pr *pair) unproven() bool { return pr.wide != pr.direct }

// padded fills a message up to size bytes (RFC 5780, section 7.6), the integrity that follows included.
type padded struct{ size int }

// AddTo implements stun.Setter.
func (p padded) AddTo(m *stun.Message) error {
	if room := p.size - len(m.Raw) - integritySize - attributeStart; room > 0 {
		m.Add(stun.AttrPadding, make([]byte, room&^3))
	}
	return nil
}

// answerSize pads the answer to a padded question to the same length, and no
// other: nobody gets more bytes than he has sent.
func answerSize(question *stun.Message) padded {
	if !question.Contains(stun.AttrPadding) {
		return padded{}
	}
	return padded{len(question.Raw)}
}

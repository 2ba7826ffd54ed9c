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
	// attributePadding makes a message as long as a packet (RFC 5780, section 7.6).
	attributePadding = stun.AttrType(0x0026)

	// fullPacket is what the largest packet of the tunnel is on the wire, without
	// the headers of IP and UDP: header 16, packet, tag 16.
	fullPacket = tunnel.DefaultMTU + 32

	integritySize  = 24 // of MESSAGE-INTEGRITY (RFC 8489, section 14.5)
	attributeStart = 4
)

var errNarrow = errors.New("the direct path carries no full packet: a link on its way is narrower than the tunnel")

// A direct path that lets small messages through and loses full packets, with
// nobody to say so, would stall every stream on it: a link on the way is narrower
// than the tunnel, and whoever drops has lost its ICMP. So before a new path
// carries packets alone it carries a probe and an answer of full size; until
// then the relay has copies. A path that fails is left to the relay, for as long as
// there is one, and is looked at again with each attempt.
//
//	new path --full probe answered--> wide: alone
//	         --only a small one is--> narrow: the relay, reason mtu

// proveWidth asks the direct path whether it carries full packets.
func (p *Pathfinder) proveWidth(ctx context.Context, pr *pair) {
	path := pr.direct
	if pr.proving || !pr.unproven() || pr.narrow == path.Addr() && pr.relay == nil {
		return
	}
	pr.proving = true
	p.task(func() {
		_, err := p.probeSized(ctx, pr.probe, path, probeLimit, fullPacket)
		narrow := false
		if err != nil && ctx.Err() == nil {
			// A path that loses much may have lost all four; a narrow one loses them again.
			if _, small := p.probeSized(ctx, pr.probe, path, probeLimit, 0); small == nil {
				_, err = p.probeSized(ctx, pr.probe, path, probeLimit, fullPacket)
				narrow = err != nil
			}
		}
		p.post(func(ctx context.Context) {
			pr.proving = false
			switch {
			case !pr.awake || ctx.Err() != nil:
			case pr.direct != path: // the next look asks that one
			case narrow:
				p.tooNarrow(pr)
			case err == nil:
				pr.wide, pr.narrow = path, netip.AddrPort{}
				p.route(pr)
			}
		})
	})
}

// tooNarrow leaves a path to the relay.
func (p *Pathfinder) tooNarrow(pr *pair) {
	if pr.narrow != pr.direct.Addr() {
		p.log.Info("direct path carries no full packet", "peer", pr.peer.ID, "remote", pr.direct.Addr().String(), "bytes", fullPacket)
	}
	pr.narrow = pr.direct.Addr()
	if pr.relay == nil {
		p.publish(pr) // it is all there is: what is small passes
		return
	}
	pr.relay.Forgive()
	pr.direct, pr.suspect = nil, false
	pr.rtt = 0
	pr.lastError = errNarrow.Error()
	pr.failures = len(retryAttempts) - 1 // links seldom change
	p.scheduleAttempt(pr)
	p.route(pr)
}

// unproven reports whether the direct path has yet to show that it is wide.
func (pr *pair) unproven() bool { return pr.wide != pr.direct }

// padded fills a message up to size bytes, the integrity that follows included.
type padded struct{ size int }

// AddTo implements stun.Setter.
func (p padded) AddTo(m *stun.Message) error {
	if room := p.size - len(m.Raw) - integritySize - attributeStart; room > 0 {
		m.Add(attributePadding, make([]byte, room&^3))
	}
	return nil
}

// probeSized does what probe does with a question, and an answer, of at least
// size bytes.
func (p *Pathfinder) probeSized(ctx context.Context, pb *prober, path *tunnel.Path, limit time.Duration, size int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	integrity := stun.MessageIntegrity(pb.key)
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(probePrefix+pb.own), pb.software(), padded{size}, integrity)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	answer, err := p.transactions.do(ctx, request, true, path.WriteSTUN)
	if err != nil {
		return 0, err
	}
	if err := integrity.Check(answer); err != nil {
		return 0, err
	}
	path.MarkReceived()
	p.heardProbe(pb, answer, netip.AddrPort{}, path.Relay())
	return time.Since(start), nil
}

// answerSize pads the answer to a padded question to the same length, and no
// other: nobody gets more bytes than he has sent.
func answerSize(question *stun.Message) padded {
	if !question.Contains(attributePadding) {
		return padded{}
	}
	return padded{len(question.Raw)}
}

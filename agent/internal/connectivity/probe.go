package connectivity

import (
	"context"
	"crypto/hmac"
	"fmt"
	"net/netip"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// probePrefix marks the username of a probe: a binding request between two
// peers that measures a path, outside any ICE session. It is sealed with
// MESSAGE-INTEGRITY under a key that only the two peers have.
const probePrefix = "wattle."

// A prober makes and answers the probes of one pair. It does not change.
type prober struct {
	key      []byte // of both directions
	own      string // tag of the probes this machine sends
	process  uint64 // this one, as in sealed messages: grows with each start
	peer     tunnel.PublicKey
	endpoint *tunnel.Endpoint
}

// Both the request and the answer of a probe say, in SOFTWARE (RFC 8489,
// section 14.14), which process of the machine speaks and how it sends to the
// other side: a restart is noticed although the path never failed, and the
// status knows both directions.
//
//	wattle <process, 16 hexadecimal digits> direct|relayed
const probeSoftware = "wattle %016x %s"

func (pb *prober) software() stun.Software {
	way := PathRelayed
	if path := pb.endpoint.Primary(); path != nil && path.Relay() == nil {
		way = PathDirect
	}
	return stun.NewSoftware(fmt.Sprintf(probeSoftware, pb.process, way))
}

// heardProbe takes what an authentic probe or answer says. From is where a
// probe came from; of an answer it is not asked.
func (p *Pathfinder) heardProbe(pb *prober, m *stun.Message, from netip.AddrPort, relay *tunnel.Relay) {
	var software stun.Software
	var process uint64
	var way string
	if software.GetFrom(m) != nil {
		return
	}
	if n, err := fmt.Sscanf(software.String(), probeSoftware, &process, &way); n != 2 || err != nil {
		return
	}
	if relay == nil && Path(way) == PathDirect {
		pb.endpoint.ComesDirect()
	}
	p.post(func(ctx context.Context) {
		pr := p.pairWith(pb.peer)
		if pr == nil || pr.probe != pb {
			return
		}
		if pr.seal.follow(process) {
			p.peerRestarted(pr)
			p.publish(pr)
		}
		p.echo(ctx, pr, from, relay)
	})
}

// probe asks the peer along a path and returns the round trip. The path notes
// the answer as a receipt.
func (p *Pathfinder) probe(ctx context.Context, pb *prober, path *tunnel.Path, limit time.Duration) (time.Duration, error) {
	return p.inquire(ctx, pb, path, limit, padded{})
}

// inquire does what probe does with a question that says more.
func (p *Pathfinder) inquire(ctx context.Context, pb *prober, path *tunnel.Path, limit time.Duration, more stun.Setter) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	integrity := stun.MessageIntegrity(pb.key)
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(probePrefix+pb.own), pb.software(), more, integrity)
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

// answerProbe answers a probe the way it came; false when the message is none.
func (p *Pathfinder) answerProbe(m *stun.Message, raw tunnel.STUNMessage) bool {
	var username stun.Username
	if username.GetFrom(m) != nil || len(username) < len(probePrefix) ||
		!hmac.Equal(username[:len(probePrefix)], []byte(probePrefix)) {
		return false
	}
	p.mu.Lock()
	pb := p.tags[string(username[len(probePrefix):])]
	p.mu.Unlock()
	if pb == nil {
		if tag := string(username[len(probePrefix):]); len(tag) == 2*probeTagSize && p.strangers.Allow() {
			p.post(func(ctx context.Context) { p.recognise(ctx, tag) }) // the probe is repeated
		}
		return true
	}
	integrity := stun.MessageIntegrity(pb.key)
	if integrity.Check(m) != nil {
		return true
	}
	answer, err := stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess, pb.software(), answerSize(m), integrity)
	if err != nil {
		return true
	}
	p.heardProbe(pb, m, raw.Addr, raw.Relay)
	p.heardPart(pb, m, raw)
	// A lost answer is asked for again.
	if raw.Relay != nil {
		_ = raw.Relay.Path(raw.Addr, 0).WriteSTUN(answer.Raw)
	} else {
		_ = p.cfg.Bind.WriteSTUN(answer.Raw, raw.Addr)
	}
	return true
}

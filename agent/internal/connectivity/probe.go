package connectivity

import (
	"context"
	"crypto/hmac"
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
	key []byte // of both directions
	own string // tag of the probes this machine sends
}

// probe asks the peer along a path and returns the round trip. The path notes
// the answer as a receipt.
func (p *Pathfinder) probe(ctx context.Context, pb *prober, path *tunnel.Path, limit time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	integrity := stun.MessageIntegrity(pb.key)
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(probePrefix+pb.own), integrity)
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
		return true
	}
	integrity := stun.MessageIntegrity(pb.key)
	if integrity.Check(m) != nil {
		return true
	}
	answer, err := stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess, integrity)
	if err != nil {
		return true
	}
	// A lost answer is asked for again.
	if raw.Relay != nil {
		_ = raw.Relay.Path(raw.Addr, 0).WriteSTUN(answer.Raw)
	} else {
		_ = p.cfg.Bind.WriteSTUN(answer.Raw, raw.Addr)
	}
	return true
}

package connectivity

import (
	"cmp"
	"slices"
	"time"

	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// published is what the loop has said about a pair. The status of a direct
// pair holds only while the peer sends directly as well.
type published struct {
	status   Status
	endpoint *tunnel.Endpoint
	relay    string // address of the relay at hand, empty: none
}

// Status returns what is known about the path to a peer; false for a peer that
// is not in the map. A pair is direct when both directions are: while the peer
// still sends through a relay it is relayed.
func (p *Pathfinder) Status(peerID string) (Status, bool) {
	p.mu.Lock()
	said, ok := p.status[peerID]
	known, mode := p.directory.peers.Has(peerID), p.told
	p.mu.Unlock()
	if !ok && known {
		state, reason := postquantum.New(mode).State()
		return Status{Path: PathIdle, Keys: KeyStatus{State: state, Reason: reason}}, true
	}
	s := said.status
	if s.Path == PathDirect && said.endpoint.ComesRelayed() {
		s.Path, s.Reason, s.Relay, s.RTT, s.MTU = PathRelayed, ReasonChecking, said.relay, 0, 0
	}
	return s, ok
}

// publish makes the state of a pair readable from outside the loop.
func (p *Pathfinder) publish(pr *pair) {
	kind := PathIdle
	switch {
	case !pr.awake:
	case pr.direct != nil:
		kind = PathDirect
	case pr.relay != nil:
		kind = PathRelayed
	}
	if kind != pr.kind {
		pr.kind, pr.since = kind, time.Now()
	}
	s := Status{Path: kind, Since: pr.since, LastAttempt: pr.lastAttempt, LastError: pr.directError, RelayError: pr.relayError, Attempt: p.record(pr.attempt)}
	switch kind {
	case PathDirect:
		s.Local, s.Remote, s.RTT, s.MTU = pr.localAddress, pr.remoteAddr, pr.rtt, pr.direct.MTU()
	case PathRelayed:
		s.Remote, s.Relay = pr.relay.Addr().String(), pr.relay.Relay().Server().String()
		if p.allocation != nil {
			s.Local = p.allocation.relayed.String()
		}
	}
	if s.RTT == 0 && kind != PathIdle {
		s.RTT = pr.evidence.rtt
	}
	s.Lost = pr.evidence.lost
	if age, ever := pr.heard(); ever {
		s.Heard = time.Now().Add(-age)
	}
	if age, ever := pr.sent(); ever {
		s.Sent = time.Now().Add(-age)
	}
	s.Keys.State, s.Keys.Reason = pr.keys.State()
	s.Keys.Since = pr.keys.Since()
	if pr.awake && kind != PathDirect {
		s.Reason = p.reason(pr)
	}
	if pr.signalErr != "" && s.LastError == "" {
		s.LastError = pr.signalErr
	}
	p.remember(pr)
	said := published{status: s, endpoint: pr.endpoint}
	if pr.relay != nil {
		said.relay = pr.relay.Relay().Server().String()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status[pr.peer.ID] = said
}

func (p *Pathfinder) unpublish(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.status, id)
	p.forgetKnown(id)
}

// reason says why the pair is not direct.
func (p *Pathfinder) reason(pr *pair) Reason {
	a := pr.attempt
	switch {
	case p.force(pr) == PathRelayed:
		return ReasonRelayForced
	case pr.narrow.IsValid():
		return ReasonMTU
	case a == nil:
		return ReasonChecking
	case a.joined == "":
		if pr.signalErr != "" || time.Since(a.began) > offlineAfter {
			return ReasonOffline
		}
		return ReasonChecking
	case !a.done:
		return ReasonChecking
	}
	if pr.declined {
		return ReasonPolicy
	}
	own, theirs := p.access(), pr.access
	switch {
	case own == AccessBlocked, theirs == AccessBlocked:
		return ReasonUDPBlocked
	case own == AccessHard && theirs == AccessHard:
		return ReasonHardNAT
	case pr.captured:
		return ReasonCaptured
	}
	return ReasonNoAnswer
}

// access is how this machine's datagrams pass, over IPv4 if it has that.
func (p *Pathfinder) access() Access {
	if p.allocation != nil && p.allocation.relay.Streaming() && len(p.outside.seen) == 0 {
		return AccessBlocked
	}
	return cmp.Or(p.outside.access(true), p.outside.access(false))
}

// NetworkStatus returns how this machine's datagrams reach the world.
func (p *Pathfinder) NetworkStatus() NetworkStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.network
	s.Mapped = slices.Clone(s.Mapped)
	s.Gateway = p.gateway
	return s
}

// publishNetwork makes what servers see of this machine readable from outside
// the loop.
func (p *Pathfinder) publishNetwork() {
	s := NetworkStatus{Access: p.access()}
	for _, addr := range p.outside.addresses() {
		s.Mapped = append(s.Mapped, addr.String())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.network = s
}

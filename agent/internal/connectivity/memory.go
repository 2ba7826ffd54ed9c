package connectivity

import (
	"context"
	"net/netip"
	"time"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// Known is where a peer was reached last. A later process of this machine
// starts with it: it finds its peers while neither the control plane nor a
// relay answers, and they hear at once that it has restarted.
type Known struct {
	PeerID  string
	Direct  netip.AddrPort // the zero value: never directly
	Relayed netip.AddrPort // the peer's relayed address; the zero value: none

	// Awake says that packets flowed not long ago: the peer is told of the restart.
	Awake bool
}

// Choices of ours.
const (
	// announceLimit bounds the peers that a process turns to when it begins.
	announceLimit = 256

	// echoInterval is the least time between two answers to the probes of a peer
	// with a probe of our own.
	echoInterval = 250 * time.Millisecond

	// mutualSilence is less than hush, after which the peer asks.
	mutualSilence = 2 * hush / 3
)

// memory is the Known of every peer that there is something to say about.
type memory struct {
	peers     map[string]Known // guarded by Pathfinder.mu
	announced int              // owned by Run
	closed    bool             // owned by Run: what happens now is only the end of this process
	learned   func()           // tells that peers has changed; may be nil
}

func newMemory(known []Known, learned func()) memory {
	m := memory{peers: make(map[string]Known, len(known)), learned: learned}
	for _, k := range known {
		m.peers[k.PeerID] = k
	}
	return m
}

// Known returns what a later process can use.
func (p *Pathfinder) Known() []Known {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Known, 0, len(p.memory.peers))
	for _, k := range p.memory.peers {
		list = append(list, k)
	}
	return list
}

// recall gives a new pair what was known about its peer. Where packets flowed
// the peer is told of the restart, before it misses an answer.
func (p *Pathfinder) recall(ctx context.Context, pr *pair) {
	p.mu.Lock()
	k, ok := p.memory.peers[pr.peer.ID]
	p.mu.Unlock()
	if !ok {
		return
	}
	pr.remembered, pr.relayed = k.Direct, k.Relayed
	if k.Awake && p.memory.announced < announceLimit {
		p.memory.announced++
		pr.announce = true
		p.wake(ctx, pr)
	}
}

// remember keeps what publish shows, as far as a later process can use it.
func (p *Pathfinder) remember(pr *pair) {
	if p.memory.closed {
		return
	}
	k := Known{PeerID: pr.peer.ID, Direct: pr.remembered, Relayed: pr.relayed, Awake: pr.awake}
	p.mu.Lock()
	former, known := p.memory.peers[k.PeerID]
	news := k != former && (known || k.Awake || k.Direct.IsValid() || k.Relayed.IsValid())
	if news {
		p.memory.peers[k.PeerID] = k
	}
	p.mu.Unlock()
	if news && p.memory.learned != nil {
		p.memory.learned()
	}
}

// forgetKnown drops a peer that has left the map. The caller holds mu.
func (p *Pathfinder) forgetKnown(id string) {
	if _, known := p.memory.peers[id]; known {
		delete(p.memory.peers, id)
		if p.memory.learned != nil {
			p.memory.learned()
		}
	}
}

// tryRemembered looks for the peer where it was last, without anybody's help.
func (p *Pathfinder) tryRemembered(ctx context.Context, pr *pair) {
	if pr.direct == nil && pr.remembered.IsValid() && pr.remembered != pr.narrow && p.looksDirect(pr) && p.allowed(pr.remembered.Addr()) {
		p.tryDirect(ctx, pr, pr.remembered, false)
	}
}

// announceRelayed tells the peer through the relay that this process is new.
func (p *Pathfinder) announceRelayed(ctx context.Context, pr *pair, path *tunnel.Path) {
	if !pr.announce {
		return
	}
	pr.announce = false
	probe := pr.probe
	p.task(func() { _, _ = p.probe(ctx, probe, path, probeLimit) }) // the question says it; hellos follow
}

// echo looks at an authentic probe of a peer to which there is no path of that
// kind: it may have come back to where it was, or sit behind another address.
func (p *Pathfinder) echo(ctx context.Context, pr *pair, from netip.AddrPort, relay *tunnel.Relay) {
	if !pr.awake || !from.IsValid() || time.Since(pr.echoed) < echoInterval {
		return
	}
	if relay == nil {
		moved := pr.moved(from)
		if (pr.direct == nil || moved) && from != pr.narrow && p.looksDirect(pr) {
			pr.echoed = time.Now()
			p.tryDirect(ctx, pr, from, moved)
		}
		return
	}
	if from != pr.relayed && p.allocation != nil && p.allocation.relay == relay {
		pr.echoed = time.Now()
		p.tryRelayed(ctx, pr, from, relay)
	}
}

// moved reports whether a probe from this address may be the first that is heard
// of a mapping that a NAT before the peer has made anew: it asks because it has
// heard nothing, and as little was heard of it since.
func (pr *pair) moved(from netip.AddrPort) bool {
	if pr.direct == nil || from == pr.direct.Addr() {
		return false
	}
	age, ever := pr.direct.Received()
	return !ever || age > mutualSilence
}

// tryRelayed takes another relayed address of the peer once it has answered
// from there: the peer has made a new allocation.
func (p *Pathfinder) tryRelayed(ctx context.Context, pr *pair, addr netip.AddrPort, relay *tunnel.Relay) {
	probe := pr.probe
	p.task(func() {
		if _, err := p.probe(ctx, probe, relay.Path(addr, 0), probeLimit); err != nil {
			return
		}
		p.post(func(ctx context.Context) {
			if pr.awake && pr.relayed != addr {
				pr.relayed, pr.relay, pr.bound = addr, nil, time.Time{}
				p.useRelay(ctx, pr)
			}
		})
	})
}

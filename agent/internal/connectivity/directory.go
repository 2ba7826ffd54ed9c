package connectivity

import (
	"context"
	"maps"
	"time"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/table"
)

// A directory is every peer of the map. A pair is made of one when it matters,
// since it costs 2 KiB and a key agreement, and a network has thousands: when
// the peer has a word to say, when there is a packet for it, or when a former
// process knew where it was.
type directory struct {
	peers table.Table[string, Peer]   // by ID; replaced under Pathfinder.mu
	ids   map[tunnel.PublicKey]string // owned by Run
	met   map[string]bool             // of which there is a pair; owned by Run

	tags     map[string]string // ID by the tag of a peer's probes, of those that were looked at; owned by Run
	seen     map[string]bool   // IDs in tags; owned by Run
	sighting bool              // somebody is looked for; owned by Run
}

func newDirectory() directory {
	return directory{ids: make(map[tunnel.PublicKey]string), met: make(map[string]bool), tags: make(map[string]string), seen: make(map[string]bool)}
}

// know takes the peers of a new map. What is not disturbed stays as it is.
func (p *Pathfinder) know(ctx context.Context, peers table.Table[string, Peer]) {
	former := p.directory.peers
	for id, peer := range table.Diff(former, peers, table.Equal) {
		if peer.Was == nil {
			continue
		}
		delete(p.directory.ids, peer.Was.PublicKey)
		delete(p.directory.ids, peer.Was.NextKey)
		if peer.Is == nil || peer.Is.PublicKey != peer.Was.PublicKey {
			delete(p.directory.seen, id) // its probes have another tag
		}
	}
	for id, peer := range table.Diff(former, peers, table.Equal) {
		if peer.Is == nil {
			continue
		}
		if p.always(*peer.Is) {
			p.turns.waiting[id] = true
		}
		p.directory.ids[peer.Is.PublicKey] = id
		if !peer.Is.NextKey.IsZero() {
			p.directory.ids[peer.Is.NextKey] = id
		}
	}
	p.mu.Lock()
	p.directory.peers = peers
	for id := range p.memory.peers {
		if peers.Has(id) {
			p.directory.met[id] = true
		} else {
			p.forgetKnown(id)
		}
	}
	p.mu.Unlock()
	for _, key := range p.cfg.Bind.Handshaking() {
		// The device had the peer before we did and has called already.
		if id, known := p.directory.ids[key]; known {
			p.directory.met[id] = true
		}
	}
	for id := range p.directory.met {
		if !peers.Has(id) {
			delete(p.directory.met, id)
		}
	}
	p.setMet(ctx)
	p.takeTurns(ctx, time.Now())
}

// setMet keeps the pairs of the peers that were met, and of no others.
func (p *Pathfinder) setMet(ctx context.Context) {
	met := make([]Peer, 0, len(p.directory.met))
	for id := range p.directory.met {
		met = append(met, p.directory.peers.At(id))
	}
	p.setPeers(ctx, met)
}

// pairOfID returns the pair of a peer of the map, made now if need be; nil for
// anybody else.
func (p *Pathfinder) pairOfID(ctx context.Context, id string) *pair {
	if pr := p.byID[id]; pr != nil {
		return pr
	}
	if !p.directory.peers.Has(id) || p.directory.met[id] {
		return nil
	}
	p.directory.met[id] = true
	p.setPeer(ctx, p.directory.peers.At(id), p.byID)
	p.tryHeld(ctx, time.Now())
	return p.byID[id]
}

// pairOfKey does the same for a key.
func (p *Pathfinder) pairOfKey(ctx context.Context, key tunnel.PublicKey) *pair {
	if pr := p.pairs[key]; pr != nil {
		return pr
	}
	id, known := p.directory.ids[key]
	if !known {
		return nil
	}
	return p.pairOfID(ctx, id)
}

// recognise looks for the peer whose probe has this tag, of which there is no
// pair: a former process of this machine had one. A tag is known once a key
// agreement is made, so each peer is looked at once in the life of the process.
func (p *Pathfinder) recognise(ctx context.Context, tag string) {
	d := &p.directory
	if id, known := d.tags[tag]; known {
		p.pairOfID(ctx, id)
		return
	}
	var unseen []Peer
	for id, peer := range d.peers.All() {
		if !d.met[id] && !d.seen[id] {
			unseen = append(unseen, peer)
		}
	}
	if d.sighting || len(unseen) == 0 {
		return
	}
	d.sighting = true
	private := p.key
	p.task(func() {
		tags := make(map[string]string, len(unseen))
		for _, peer := range unseen {
			if ctx.Err() != nil {
				return
			}
			if found, err := tagOf(private, peer.PublicKey); err == nil {
				tags[found] = peer.ID
			}
		}
		p.post(func(ctx context.Context) {
			d.sighting = false
			for _, peer := range unseen {
				d.seen[peer.ID] = true
			}
			maps.Copy(d.tags, tags)
			if id, known := d.tags[tag]; known {
				p.pairOfID(ctx, id)
			}
		})
	})
}

// tagOf returns the tag of the probes of a peer.
func tagOf(private tunnel.PrivateKey, peer tunnel.PublicKey) (string, error) {
	secret, err := private.Shared(peer)
	if err != nil {
		return "", err
	}
	return probeTag(secret, peer)
}

func (p *Pathfinder) setPeers(ctx context.Context, peers []Peer) {
	wanted := make(map[tunnel.PublicKey]bool, len(peers))
	former := maps.Clone(p.byID)
	clear(p.byID)
	for _, peer := range peers {
		wanted[peer.PublicKey] = true
		p.setPeer(ctx, peer, former)
	}
	for key, pr := range p.pairs {
		if !wanted[key] {
			p.remove(pr)
		}
	}
	p.tryHeld(ctx, time.Now())
}

// setPeer makes the pair of a peer what the map says. Former are the pairs by ID
// before.
func (p *Pathfinder) setPeer(ctx context.Context, peer Peer, former map[string]*pair) {
	pr := p.pairOf(peer, former)
	before := pr.peer
	fresh := len(pr.bonds) == 0
	pr.peer = peer
	if err := p.bind(pr); err != nil {
		p.log.Warn("peer has an unusable key, it will not be reached", "peer", peer.ID, "error", err.Error())
		p.remove(pr)
		return
	}
	if before.ID != peer.ID {
		p.unpublish(before.ID)
	}
	p.byID[peer.ID] = pr
	if fresh {
		p.recall(ctx, pr)
	}
	p.publish(pr)
	switch {
	case !pr.awake && pr.endpoint.Handshaking():
		p.wake(ctx, pr) // the device had the peer before we did and has called already
	case !pr.awake && p.always(peer):
		p.turns.waiting[peer.ID] = true
	case pr.awake && !fresh && before.Mode != peer.Mode:
		p.changeMode(ctx, pr)
	}
}

func (p *Pathfinder) remove(pr *pair) {
	if pr.endpoint != nil {
		p.sleep(pr)
	}
	delete(p.pairs, pr.peer.PublicKey)
	if p.byID[pr.peer.ID] == nil {
		p.unpublish(pr.peer.ID)
	}
	p.unbind(pr)
}

package connectivity

import (
	"context"

	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// A bond is one key of ours and one of the peer's. While either side rotates
// its key a pair has several. One is in use: by it this machine seals and
// probes. All of them open what the peer has sealed, and answer probes: a peer
// that answers a probe under our next key has heard of it, and its device too.
type bond struct {
	endpoint *tunnel.Endpoint // by the peer's key
	seal     *sealer
	probe    *prober

	asking, answered bool // a probe under our next key

	secret *postquantum.Secret // that the device has the pre-shared key of; nil: none
}

type bondKey struct{ own, peer tunnel.PublicKey }

// SetKeys makes key the one that this machine uses. Other is the next one,
// which peers are told of before it is used, or the former one, under which
// their messages still arrive; zero for none.
func (p *Pathfinder) SetKeys(key, other tunnel.PrivateKey) {
	p.post(func(context.Context) {
		changed := !p.key.Equal(key)
		p.key, p.other = key, other
		if changed {
			clear(p.directory.tags)
			clear(p.directory.seen)
		}
		for _, pr := range p.pairs {
			if err := p.bind(pr); err != nil {
				p.log.Warn("key cannot be used with a peer", "peer", pr.peer.ID, "error", err.Error())
				continue
			}
			if changed && pr.primary != nil && p.cfg.Handshake != nil {
				p.cfg.Handshake(pr.uses)
			}
		}
	})
}

// An Active peer is one that a path is kept to.
type Active struct {
	ID       string
	Key      tunnel.PublicKey // in use
	Rotates  bool             // it has a next key that it does not use yet
	KnowsKey bool             // it has answered under the other key of this machine
}

// Active returns the peers with a path, and asks those who have not answered
// under the other key yet whether they know it.
func (p *Pathfinder) Active(ctx context.Context) ([]Active, error) {
	answer := make(chan []Active, 1)
	p.post(func(ctx context.Context) {
		list := []Active{}
		for _, pr := range p.pairs {
			if pr.primary == nil {
				continue
			}
			rotates := !pr.peer.NextKey.IsZero() && pr.uses != pr.peer.NextKey
			list = append(list, Active{ID: pr.peer.ID, Key: pr.uses, Rotates: rotates, KnowsKey: p.knowsKey(ctx, pr)})
		}
		answer <- list
	})
	select {
	case list := <-answer:
		return list, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// knowsKey reports whether a peer has answered under our other key, and asks if not.
func (p *Pathfinder) knowsKey(ctx context.Context, pr *pair) bool {
	b := pr.bonds[bondKey{p.other.Public(), pr.uses}]
	if p.other.IsZero() || b == nil {
		return false
	}
	if b.answered || b.asking {
		return b.answered
	}
	b.asking = true
	path := pr.primary
	p.task(func() {
		_, err := p.probe(ctx, b.probe, path, askLimit)
		p.post(func(context.Context) { b.asking, b.answered = false, b.answered || err == nil })
	})
	return false
}

// pairOf returns the pair of a peer of the map: the one that it was under the
// same key, or under the one it has changed over from, or a new one.
func (p *Pathfinder) pairOf(peer Peer, former map[string]*pair) *pair {
	pr := p.pairs[peer.PublicKey]
	if known := former[peer.ID]; pr == nil && known != nil && known.peer.NextKey == peer.PublicKey {
		delete(p.pairs, known.peer.PublicKey)
		pr = known
	}
	if pr != nil {
		at := pr.bonds[bondKey{p.key.Public(), peer.PublicKey}]
		if at == nil || at.endpoint != p.cfg.Bind.Endpoint(peer.PublicKey) {
			p.remove(pr) // the device has let the peer go and taken it again
			pr = nil
		}
	}
	if pr == nil {
		pr = &pair{bonds: map[bondKey]*bond{}, keys: postquantum.New(p.mode, postquantum.MLKEM{})}
	}
	p.pairs[peer.PublicKey] = pr
	return pr
}

// pairWith returns the pair of the peer that has or will have a key.
func (p *Pathfinder) pairWith(key tunnel.PublicKey) *pair {
	if pr := p.pairs[key]; pr != nil {
		return pr
	}
	for _, pr := range p.pairs {
		if pr.peer.NextKey == key {
			return pr
		}
	}
	return nil
}

// bind gives a pair the bonds of all its keys and takes the others away.
func (p *Pathfinder) bind(pr *pair) error {
	if pr.uses != pr.peer.NextKey || pr.uses.IsZero() {
		pr.uses = pr.peer.PublicKey
	}
	wanted, fresh := map[bondKey]*bond{}, false
	for _, own := range []tunnel.PrivateKey{p.key, p.other} {
		for _, peer := range []tunnel.PublicKey{pr.peer.PublicKey, pr.peer.NextKey} {
			if own.IsZero() || peer.IsZero() {
				continue
			}
			key := bondKey{own.Public(), peer}
			b := pr.bonds[key]
			if b == nil {
				var err error
				if b, err = p.newBond(pr, own, peer); err != nil {
					return err
				}
				fresh = true
			}
			wanted[key] = b
			delete(pr.bonds, key)
		}
	}
	p.unbind(pr)
	p.unmix(pr)
	pr.bonds = wanted
	p.mix(pr) // before the peer hears that we know its key
	p.mu.Lock()
	for _, b := range wanted {
		p.tags[b.seal.peerTag] = b.probe
	}
	p.mu.Unlock()
	p.use(pr)
	if fresh && pr.primary != nil {
		pr.send(pr.primary, pr.also)
	}
	return nil
}

func (p *Pathfinder) newBond(pr *pair, own tunnel.PrivateKey, peer tunnel.PublicKey) (*bond, error) {
	seal, err := newSealer(own, peer, p.started)
	if err != nil {
		return nil, err
	}
	if pr.seal != nil {
		seal.seenEpoch = pr.seal.seenEpoch // the same process of the peer
	}
	b := &bond{endpoint: p.cfg.Bind.Endpoint(peer), seal: seal}
	b.probe = &prober{key: seal.probeKey, own: seal.ownTag, process: seal.epoch, peer: peer, endpoint: b.endpoint}
	return b, nil
}

// unbind takes the bonds of a pair away.
func (p *Pathfinder) unbind(pr *pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range pr.bonds {
		delete(p.tags, b.seal.peerTag)
	}
}

// use makes the bond of the keys in use the one of the pair.
func (p *Pathfinder) use(pr *pair) {
	b := pr.bonds[bondKey{p.key.Public(), pr.uses}]
	if pr.seal != b.seal {
		pr.parcel = parcel{} // its boxes are counted anew
	}
	pr.endpoint, pr.seal, pr.probe = b.endpoint, b.seal, b.probe
	pr.keys.SetLeads(p.key.Public().Less(pr.uses))
}

// changedOver takes notice that a peer uses its next key.
func (p *Pathfinder) changedOver(pr *pair, key tunnel.PublicKey) {
	if key != pr.peer.NextKey || pr.uses == key {
		return
	}
	p.log.Info("peer has changed its key", "peer", pr.peer.ID)
	pr.uses = key
	p.use(pr)
	p.publish(pr)
}

// open opens a message under any bond of the pair.
func (p *Pathfinder) open(pr *pair, box []byte) (message []byte, restarted bool, err error) {
	message, restarted, err = pr.seal.open(box)
	if err == nil || len(pr.bonds) == 1 {
		return message, restarted, err
	}
	for key, b := range pr.bonds {
		if b.seal == pr.seal {
			continue
		}
		if message, restarted, other := b.seal.open(box); other == nil {
			p.changedOver(pr, key.peer)
			return message, restarted, nil
		}
	}
	return nil, false, err
}

// send tells the device where to, under each key of the peer.
func (pr *pair) send(primary, also *tunnel.Path) {
	for _, b := range pr.bonds {
		if primary == nil {
			b.endpoint.Idle()
		} else {
			b.endpoint.Use(primary, also)
		}
	}
}

package connectivity

import (
	"context"
	"time"

	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// Choices of ours.
const (
	// settled is how long a path stands until the session on it is taken for begun.
	settled = time.Second

	// inUse is how long ago the last packet of a pair may be that has traffic.
	inUse = 2 * time.Minute

	// rehandshake is when a session with the first secret is asked for again; each
	// wait is as long as all before, so that slow paths get theirs. After
	// rehandshakeLimit that is left to the device.
	rehandshake      = time.Second
	rehandshakeLimit = 15 * time.Second
)

// SetPostQuantum says what the account wants of pairs of machines.
func (p *Pathfinder) SetPostQuantum(mode postquantum.Mode) {
	p.mu.Lock()
	p.told = mode
	p.mu.Unlock()
	p.post(func(ctx context.Context) {
		if p.mode == mode {
			return
		}
		p.mode = mode
		for _, pr := range p.pairs {
			e := pr.keys.SetMode(mode)
			p.take(pr, e)
			if pr.awake {
				pr.keys.Step(time.Now(), pr.use())
				p.sendKeys(ctx, pr)
			}
			p.publish(pr)
		}
	})
}

// heedKeys takes the peer's word about post-quantum keys.
func (p *Pathfinder) heedKeys(pr *pair, m *postquantum.Message) {
	e := pr.keys.Receive(m, time.Now())
	if e.Err != nil {
		p.log.Debug("post-quantum exchange refused", "peer", pr.peer.ID, "error", e.Err.Error())
	}
	p.take(pr, e)
	if !e.Both {
		return
	}
	p.log.Debug("post-quantum secret agreed on", "peer", pr.peer.ID)
	if !pr.keys.First() {
		return // the next handshake is soon enough
	}
	pr.unmixed, pr.handshook = pr.keys.Since(), time.Now()
	if e.Changed {
		p.begin(pr)
	}
}

// begin begins a session with the first secret. This side was the second to use
// it, so the handshake finds both ready.
func (p *Pathfinder) begin(pr *pair) {
	if pr.keys.Strict() && p.cfg.Rekey != nil {
		p.cfg.Rekey(pr.uses) // there is no session to be lost
	}
	if p.cfg.Handshake != nil {
		p.cfg.Handshake(pr.uses)
	}
}

// take carries out what the exchange has changed.
func (p *Pathfinder) take(pr *pair, e postquantum.Effect) {
	if e.Changed {
		p.mix(pr)
	}
	pr.tellKeys = pr.tellKeys || e.Reply
}

// stepKeys begins and repeats exchanges, and sees to it that a session follows.
func (p *Pathfinder) stepKeys(ctx context.Context, pr *pair, now time.Time) {
	say := pr.keys.Step(now, pr.use())
	if say || pr.tellKeys {
		p.sendKeys(ctx, pr)
	}
	if pr.primary != nil && pr.keys.Waiting() && (pr.undelivered || say && pr.keys.Repeating()) {
		p.passKeys(ctx, pr, pr.primary)
	}
	if pr.unmixed.IsZero() || now.Sub(pr.handshook) < max(rehandshake, pr.handshook.Sub(pr.unmixed)) {
		return
	}
	began, ever := pr.endpoint.HandshakeAge()
	waiting := pr.endpoint.Handshaking()
	switch {
	case ever && began < now.Sub(pr.unmixed) && !waiting, now.Sub(pr.unmixed) > rehandshakeLimit:
		pr.unmixed = time.Time{}
	case waiting:
		pr.handshook = now
		p.begin(pr) // what is not answered until now is refused perhaps
	case p.cfg.Handshake != nil:
		pr.handshook = now
		p.cfg.Handshake(pr.uses)
	}
}

// use says what the pair is used for.
func (pr *pair) use() postquantum.Use {
	return postquantum.Use{
		Session: pr.primary != nil && pr.kind != PathIdle && time.Since(pr.since) > settled && !pr.endpoint.Handshaking(),
		Traffic: pr.busy(),
	}
}

// busy reports whether data was sent to the peer not long ago.
func (pr *pair) busy() bool {
	age, ever := pr.sent()
	return ever && age < inUse
}

// sendKeys tells the peer what the exchange has to say, with the hello that
// waits to be sent if there is one.
func (p *Pathfinder) sendKeys(ctx context.Context, pr *pair) {
	if pr.pending == nil {
		pr.pending = &hello{}
	}
	p.flushHello(ctx, pr)
}

// mix gives the device the pre-shared keys of a pair: another one for each key of
// ours with each of the peer's, so that either may be rotated.
func (p *Pathfinder) mix(pr *pair) {
	for at, b := range pr.bonds {
		p.mixBond(pr, at, b, pr.keys.Secret())
	}
}

// unmix withdraws the keys of bonds that go.
func (p *Pathfinder) unmix(pr *pair) {
	for at, b := range pr.bonds {
		p.mixBond(pr, at, b, nil)
	}
}

func (p *Pathfinder) mixBond(pr *pair, at bondKey, b *bond, secret *postquantum.Secret) {
	if p.cfg.PresharedKey == nil || b.secret == secret {
		return
	}
	key, err := presharedKey(secret, at)
	if err == nil {
		err = p.cfg.PresharedKey(at.own, at.peer, key)
	}
	if err != nil {
		p.log.Warn("pre-shared key of a peer not set", "peer", pr.peer.ID, "error", err.Error())
		return
	}
	b.secret = secret
}

// presharedKey is what a secret means for a key of ours and one of the peer's.
func presharedKey(secret *postquantum.Secret, at bondKey) (tunnel.PresharedKey, error) {
	if secret == nil {
		return tunnel.PresharedKey{}, nil
	}
	raw, err := secret.Key(at.own, at.peer)
	return tunnel.NewPresharedKey(raw), err
}

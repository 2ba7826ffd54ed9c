package tunnel

import (
	"fmt"
	"slices"
	"time"

	"github.com/wattlenet/wattle/internal/table"
)

// A peer that rotates its key has two for a while, and the device knows it twice:
//
//	map: key k1, next k2   k1 has the addresses, k2 has none but answers handshakes
//	first data under k2    it is held for a moment, then the addresses move to k2
//	map: key k2            k1 goes soon: what was handed to it is still on its way out
//
// An address belongs to one peer of a device, which refuses packets of the
// other key. So what k1 had sent before has a round trip and graceTime to come
// through, while packets back still leave under k1.
const (
	graceTime = 30 * time.Millisecond

	// heldLimit bounds in bytes what a peer sends under its next key meanwhile:
	// 1 Gbit/s.
	heldLimit = 4 << 20

	// joinTime is how long the device may take to make the session of the first
	// data its own; until then it would begin one itself.
	joinTime = 50 * time.Millisecond

	// retireTime is how long a key stays that its peer does not use any more.
	retireTime = 5 * time.Second
)

// A retirement is a key that stays for a moment, without addresses.
type retirement struct {
	successor PublicKey
	until     time.Time
}

// SetKey replaces the private key. Sessions go on receiving, and each peer gets
// a new one with the next packet; peers that do not know the key are lost. The
// same key again does nothing.
func (d *Device) SetKey(private PrivateKey) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bind.PublicKey() == private.Public() {
		return nil
	}
	for _, p := range d.configured {
		d.bind.Endpoint(p.PublicKey).reborn()
	}
	former := d.mixing.own
	d.mixing.own = private.Public()
	err := d.configureAll() // with what was agreed for the new key
	if err == nil {
		err = d.wg.SetKey(private)
	}
	if err != nil {
		d.mixing.own = former
		return fmt.Errorf("set the key of the WireGuard device: %w", err)
	}
	d.bind.setKey(private)
	return nil
}

// entries gives each key of a peer an entry of its own, and makes the next key
// wait for its first data. The caller holds mu.
func (d *Device) entries(p Peer) []Peer {
	now, next := p, Peer{PublicKey: p.NextKey}
	now.NextKey = PublicKey{}
	var list []Peer
	if !p.NextKey.IsZero() {
		if d.moved[p.NextKey] {
			next.AllowedIPs, now.AllowedIPs = now.AllowedIPs, nil
		} else {
			d.awaitData(p.NextKey)
		}
		list = append(list, next)
	}
	list = append(list, now)
	for key, r := range d.retired {
		if r.successor == p.PublicKey {
			list = append(list, Peer{PublicKey: key})
		}
	}
	return list
}

// retireKeys lets the keys go that peers have changed over from, adds whom else
// that concerns to changed, and forgets moves to keys that are nobody's next any
// more. The caller holds mu and renews the entries then.
func (d *Device) retireKeys(before table.Table[PublicKey, Peer], changed map[PublicKey]bool) {
	now := time.Now()
	for key := range changed {
		was := before.At(key)
		if was.NextKey.IsZero() || d.wanted.At(key).NextKey == was.NextKey {
			continue
		}
		delete(d.moved, was.NextKey)
		if d.wanted.Has(was.NextKey) {
			d.retired[key] = retirement{was.NextKey, now.Add(retireTime)}
		}
	}
	if len(d.retired) == 0 {
		return
	}
	nexts := map[PublicKey]bool{}
	for p := range d.wanted.Values() {
		nexts[p.NextKey] = true
	}
	for key, r := range d.retired {
		changed[r.successor] = true
		if d.wanted.Has(key) || nexts[key] || !d.wanted.Has(r.successor) || !now.Before(r.until) {
			delete(d.retired, key)
		}
	}
	if d.retiring == nil {
		d.retiring = time.AfterFunc(retireTime, d.retireNow)
	} else {
		d.retiring.Reset(retireTime)
	}
}

func (d *Device) retireNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	changed := map[PublicKey]bool{}
	d.retireKeys(d.wanted, changed)
	if err := d.renewEntries(changed); err != nil {
		d.log.Warn("former key of a peer not dropped", "error", err.Error())
	}
}

// awaitData moves the addresses with the first data under key.
func (d *Device) awaitData(key PublicKey) {
	move := func() {
		// Beside the goroutine of the socket: closing the device waits for that
		// one and holds what changing the device needs.
		d.moves.Go(func() {
			grace := time.NewTimer(graceTime)
			defer grace.Stop()
			select {
			case <-grace.C:
			case <-d.done:
				return
			}
			d.moveTo(key)
			d.bind.Endpoint(key).release()
		})
	}
	d.bind.Endpoint(key).firstData.CompareAndSwap(nil, &move)
}

func (d *Device) moveTo(key PublicKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	changed := map[PublicKey]bool{}
	for p := range d.wanted.Values() {
		if p.NextKey == key {
			changed[p.PublicKey] = true
		}
	}
	if len(changed) == 0 {
		return
	}
	d.moved[key] = true
	if err := d.renewEntries(changed); err != nil {
		d.log.Warn("peer has a new key that is not used yet", "error", err.Error())
		return
	}
	d.bind.events.add(Event{Kind: Rekeyed, Peer: key})
}

// A heldPacket has arrived and was not shown to the device yet.
type heldPacket struct {
	from  *Endpoint
	bytes []byte
}

// hold keeps data until release; false when nothing waits for it any more.
func (e *Endpoint) hold(message []byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	begin := e.firstData.Load()
	if begin == nil || e.forgotten {
		return false
	}
	if e.heldBytes+len(message) > heldLimit {
		e.bind.counters.queueDrops.Add(1)
		return true
	}
	if len(e.held) == 0 {
		(*begin)()
	}
	e.held = append(e.held, heldPacket{from: e, bytes: slices.Clone(message)})
	e.heldBytes += len(message)
	return true
}

// release shows the device what was held.
func (e *Endpoint) release() {
	e.mu.Lock()
	held := e.held
	e.held, e.heldBytes = nil, 0
	e.firstData.Store(nil)
	e.joinedAt.Store(e.bind.now())
	e.mu.Unlock()
	e.bind.streams.inject(held)
}

// crossesFirstData reports whether message begins a session although the peer
// has just begun one, which the device will see in a moment.
func (e *Endpoint) crossesFirstData(message []byte) bool {
	joined := e.joinedAt.Load()
	if joined == 0 {
		return false
	}
	if wireguardType(message) == messageInitiation && e.bind.now()-joined < int64(joinTime) {
		return true
	}
	e.joinedAt.Store(0) // data: the session is the device's own
	return false
}

// reborn forgets what was made with a former key of ours: to the peer this is
// another one.
func (e *Endpoint) reborn() {
	e.joinedAt.Store(0)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.initiation, e.initiatedAt = nil, 0
}

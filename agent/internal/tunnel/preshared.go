package tunnel

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"maps"
)

// A PresharedKey is mixed into the handshakes with one peer: the psk of Noise
// IKpsk2 (WireGuard white paper, section 5.2). The zero value is none.
type PresharedKey struct {
	secret
	bytes [KeySize]byte
}

// NewPresharedKey takes the bytes that both sides have agreed on.
func NewPresharedKey(bytes [KeySize]byte) PresharedKey { return PresharedKey{bytes: bytes} }

// randomPresharedKey is one that no other machine has.
func randomPresharedKey() PresharedKey {
	var k PresharedKey
	_, _ = rand.Read(k.bytes[:]) // never fails since Go 1.24
	return k
}

// IsZero reports whether there is no key.
func (k PresharedKey) IsZero() bool { return k.Equal(PresharedKey{}) }

// Equal compares two keys in constant time.
func (k PresharedKey) Equal(other PresharedKey) bool {
	return subtle.ConstantTimeCompare(k.bytes[:], other.bytes[:]) == 1
}

// A session is named by the keys of its two ends.
type session struct{ own, peer PublicKey }

// mixing is which pre-shared key each peer of the device has. What was agreed
// on is kept for peers that are not active too.
type mixing struct {
	own      PublicKey // of the device; the keys are agreed for this one and the next
	required bool      // who has agreed on none gets lock
	open     bool      // and sessions that began without are still to be ended
	lock     PresharedKey
	agreed   map[session]PresharedKey
	told     map[PublicKey]PresharedKey // what the device has
}

func newMixing(own PublicKey) mixing {
	return mixing{own: own, lock: randomPresharedKey(), agreed: map[session]PresharedKey{}, told: map[PublicKey]PresharedKey{}}
}

// key returns what handshakes with a peer take, and whether it was agreed on.
func (m *mixing) key(peer PublicKey) (key PresharedKey, agreed bool) {
	if key, agreed = m.agreed[session{m.own, peer}]; !agreed && m.required {
		key = m.lock
	}
	return key, agreed
}

// change writes the lines that give peers the keys that they shall have. Known
// says that the device has nothing else than it was told.
func (m *mixing) change(peers []Peer, known bool) string {
	u := newUAPI()
	for _, p := range peers {
		key, _ := m.key(p.PublicKey)
		told, ever := m.told[p.PublicKey]
		if !told.Equal(key) || !ever && !known {
			u.set("public_key", hex.EncodeToString(p.PublicKey[:])).set("preshared_key", hex.EncodeToString(key.bytes[:]))
		}
	}
	return u.String()
}

// note takes down that the device has no longer some peers, and others with the
// keys they shall have.
func (m *mixing) note(gone, peers []Peer) {
	for _, p := range gone {
		delete(m.told, p.PublicKey)
	}
	for _, p := range peers {
		if key, _ := m.key(p.PublicKey); !key.IsZero() {
			m.told[p.PublicKey] = key
		}
	}
}

// SetPresharedKey makes key the one that sessions between a key of this machine
// and one of a peer begin with from now on; the zero value withdraws it. The
// present session lives on. Own need not be in use yet: SetKey takes with it
// what was agreed for the new key. A peer that is not known is passed over.
func (d *Device) SetPresharedKey(own, peer PublicKey, key PresharedKey) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.roster.member(peer)
	switch {
	case d.closed:
		return errClosed
	case m == nil:
		return nil
	}
	_, had := d.mixing.key(peer)
	if key.IsZero() {
		delete(d.mixing.agreed, session{own, peer})
	} else {
		d.mixing.agreed[session{own, peer}] = key
	}
	mixed, has := d.mixing.key(peer)
	if d.mixing.required && had != has {
		d.bind.Endpoint(peer).remix()
	}
	if own != d.mixing.own || !m.active.Load() && !d.roster.whole {
		return nil
	}
	if err := d.wg.IpcSet(d.mixing.change([]Peer{m.peer}, true)); err != nil {
		return fmt.Errorf("set the pre-shared key of a peer: %w", err)
	}
	d.mixing.told[peer] = mixed
	return nil
}

// require begins or ends to refuse sessions with peers that no key was agreed on
// with, those that stand among them. The caller holds mu.
func (d *Device) require(required bool) error {
	m := &d.mixing
	if m.required == required && !m.open {
		return nil
	}
	m.required, m.open = required, required // also after an error: what fails must not let anybody in
	if err := d.configureAll(); err != nil || !required {
		return err
	}
	var open []*member
	for _, p := range d.configured {
		known := d.roster.member(p.PublicKey)
		if _, agreed := m.key(p.PublicKey); agreed || known == nil {
			continue
		}
		d.bind.Endpoint(p.PublicKey).remix()
		if d.roster.whole {
			d.Rekey(p.PublicKey)
		} else {
			open = append(open, known)
		}
	}
	if err := d.retire(open); err != nil {
		return err
	}
	m.open = false
	return nil
}

// forgetKeys drops the pre-shared keys of peers that have left. The caller holds mu.
func (d *Device) forgetKeys() {
	maps.DeleteFunc(d.mixing.agreed, func(s session, _ PresharedKey) bool { return d.roster.member(s.peer) == nil })
}

// remix forgets the handshakes that began with another pre-shared key: they can
// not end any more, and must not stand in the way of the next.
func (e *Endpoint) remix() {
	e.joinedAt.Store(0)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.initiation, e.response, e.heard = nil, nil, nil
}

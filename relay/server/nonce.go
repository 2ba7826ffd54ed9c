package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v2"
)

// Constants that we chose. RFC 8656, section 5, has a nonce expire once an hour
// at least.
const (
	nonceLife = time.Hour
	// renewInner keeps pion's nonce, which lives for an hour, always young.
	renewInner = nonceLife / 2
	// nonceProof is what a nonce takes of its hash, in bytes. Who guesses one has
	// won nothing: it only tells repeated requests from fresh ones.
	nonceProof = 8
)

// nonces are what clients are challenged with, kept nowhere:
//
//	nonce = base64(minutes since 1970 (4 bytes) | HMAC-SHA256(key, minutes)[:8])
//
// These 16 characters make a challenge 60 bytes, three times the shortest
// request; pion's have 80, which would make it six times. Pion takes only its
// own, so each authenticated request is shown to it with one of those.
type nonces struct {
	key   []byte
	inner *nonceSource
}

func newNonces(key []byte) *nonces { return &nonces{key: key, inner: newNonceSource()} }

// newNonceKey makes a key for newNonces: a relay that starts again challenges
// its clients once more.
func newNonceKey() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return key
}

// fresh returns a nonce that is valid for an hour.
func (n *nonces) fresh(now time.Time) stun.Nonce {
	return n.seal(uint32(now.Unix() / 60))
}

func (n *nonces) seal(minute uint32) stun.Nonce {
	raw := binary.BigEndian.AppendUint32(nil, minute)
	mac := hmac.New(sha256.New, n.key)
	mac.Write(raw) // a hash never fails to write
	return stun.NewNonce(base64.RawURLEncoding.EncodeToString(append(raw, mac.Sum(nil)[:nonceProof]...)))
}

// valid reports whether m has a nonce of ours that has not expired.
func (n *nonces) valid(m *stun.Message, now time.Time) bool {
	var given stun.Nonce
	if given.GetFrom(m) != nil {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(given.String())
	if err != nil || len(raw) != 4+nonceProof {
		return false
	}
	minute := binary.BigEndian.Uint32(raw)
	age := now.Unix()/60 - int64(minute)
	return hmac.Equal(n.seal(minute), given) && age >= 0 && age <= int64(nonceLife/time.Minute)
}

// renonce returns the request that pion is shown in place of m, which has been
// authenticated by key: with the nonce that pion knows, and without what stands
// behind MESSAGE-INTEGRITY, which nothing proves (RFC 8489, section 14.5). It
// returns nil when the relay stops.
func (n *nonces) renonce(m *stun.Message, key stun.MessageIntegrity) *stun.Message {
	inner := n.inner.latest()
	if inner == nil {
		return nil
	}
	setters := []stun.Setter{stun.NewTransactionIDSetter(m.TransactionID), m.Type}
	for _, attribute := range m.Attributes {
		if attribute.Type == stun.AttrMessageIntegrity {
			break
		}
		if attribute.Type != stun.AttrNonce {
			setters = append(setters, attribute)
		}
	}
	shown, err := stun.Build(append(setters, inner, key)...)
	if err != nil {
		return nil // longer than a message can be
	}
	return shown
}

// A nonceSource gets nonces from pion, as a client that asks for nothing else.
// It is a socket without a network: pion reads a request without a credential
// from it, and writes a challenge to it.
type nonceSource struct {
	nonce  atomic.Pointer[stun.Nonce]
	known  chan struct{} // closed with the first nonce
	closed chan struct{}
	first  sync.Once
	last   sync.Once
	asked  bool // owned by the reading goroutine
}

func newNonceSource() *nonceSource {
	return &nonceSource{known: make(chan struct{}), closed: make(chan struct{})}
}

// latest returns the newest nonce; it waits for the first. It returns nil after
// Close.
func (s *nonceSource) latest() stun.Nonce {
	select {
	case <-s.known:
		return *s.nonce.Load()
	case <-s.closed:
		return nil
	}
}

func (s *nonceSource) learn(nonce stun.Nonce) {
	s.nonce.Store(&nonce)
	s.first.Do(func() { close(s.known) })
}

// ReadFrom asks at once and then every renewInner.
func (s *nonceSource) ReadFrom(p []byte) (int, net.Addr, error) {
	wait := renewInner
	if !s.asked {
		wait, s.asked = 0, true
	}
	select {
	case <-time.After(wait):
	case <-s.closed:
		return 0, nil, net.ErrClosed
	}
	m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest))
	if err != nil {
		return 0, nil, err
	}
	return copy(p, m.Raw), s.LocalAddr(), nil
}

// WriteTo takes the nonce out of the challenge.
func (s *nonceSource) WriteTo(p []byte, _ net.Addr) (int, error) {
	m := &stun.Message{Raw: p}
	var nonce stun.Nonce
	if m.Decode() == nil && nonce.GetFrom(m) == nil {
		s.learn(append(stun.Nonce(nil), nonce...))
	}
	return len(p), nil
}

func (s *nonceSource) Close() error {
	s.last.Do(func() { close(s.closed) })
	return nil
}

// LocalAddr is a name only.
func (s *nonceSource) LocalAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4zero} }

func (s *nonceSource) SetDeadline(time.Time) error      { return nil }
func (s *nonceSource) SetReadDeadline(time.Time) error  { return nil }
func (s *nonceSource) SetWriteDeadline(time.Time) error { return nil }

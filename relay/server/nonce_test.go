package server

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v2"
)

// A nonce is of use for an hour; then the client is told another one, by which
// its request passes (RFC 8489, section 9.2.4).
func TestNonceExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		credential := NewCredential(testSecret, alice, time.Now().Add(12*time.Hour))
		build := func(nonce stun.Nonce) []byte {
			m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), nonce, stun.NewRealm(Realm),
				stun.NewUsername(credential.Username), stun.NewLongTermIntegrity(credential.Username, Realm, credential.Password))
			if err != nil {
				t.Fatal(err)
			}
			return m.Raw
		}
		old := build(g.nonces.fresh(time.Now()))
		if v := g.admit(old, from(1)); !v.pass {
			t.Fatalf("a fresh nonce: %+v", v)
		}
		time.Sleep(nonceLife + 2*time.Minute)
		v := g.admit(old, from(1))
		if v.pass || code(t, v.answer) != stun.CodeStaleNonce {
			t.Fatalf("an old nonce: %+v", v)
		}
		if len(v.answer) > len(old) {
			t.Errorf("%d bytes answer %d", len(v.answer), len(old))
		}
		answer := &stun.Message{Raw: v.answer}
		var next stun.Nonce
		if err := answer.Decode(); err != nil {
			t.Fatal(err)
		}
		if err := next.GetFrom(answer); err != nil {
			t.Fatal(err)
		}
		if v := g.admit(build(next), from(1)); !v.pass {
			t.Errorf("the nonce that was told: %+v", v)
		}
		if v := newGate().admit(build(newNonces([]byte("another key")).fresh(time.Now())), from(1)); v.pass {
			t.Error("the nonce of another relay passes")
		}
	})
}

// Pion is shown its own nonce under a valid MESSAGE-INTEGRITY, and nothing that
// stands behind the one of the client.
func TestPionIsShownItsNonce(t *testing.T) {
	g, credential := newGate(), credentialOf(alice)
	raw := request(t, stun.MethodAllocate, credential, stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{protocolUDP, 0, 0, 0}})
	m := &stun.Message{Raw: raw}
	if err := m.Decode(); err != nil {
		t.Fatal(err)
	}
	m.Add(stun.AttrDontFragment, nil)
	v := g.admit(m.Raw, from(1))
	if !v.pass {
		t.Fatalf("%+v", v)
	}
	shown := &stun.Message{Raw: v.message(raw)}
	if err := shown.Decode(); err != nil {
		t.Fatal(err)
	}
	var nonce stun.Nonce
	if err := nonce.GetFrom(shown); err != nil || nonce.String() != testNonces.inner.latest().String() {
		t.Errorf("nonce %q, %v", nonce, err)
	}
	if err := stun.NewLongTermIntegrity(credential.Username, Realm, credential.Password).Check(shown); err != nil {
		t.Error(err)
	}
	if shown.TransactionID != m.TransactionID || shown.Type != m.Type || !shown.Contains(stun.AttrRequestedTransport) {
		t.Errorf("shown as %s", shown)
	}
	if shown.Contains(stun.AttrDontFragment) {
		t.Error("what stands behind MESSAGE-INTEGRITY is shown")
	}
}

// The source asks pion before its nonce ends, and ends when it is told to.
func TestNonceSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := newNonceSource(), time.Now()
		for i, nonce := range []string{"first", "second"} {
			if _, _, err := s.ReadFrom(make([]byte, maxMessage)); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited != time.Duration(i)*renewInner {
				t.Errorf("asked for the %s nonce after %s", nonce, waited)
			}
			challenge, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassErrorResponse), stun.NewNonce(nonce))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.WriteTo(challenge.Raw, s.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			if got := s.latest().String(); got != nonce {
				t.Errorf("nonce %q, want %q", got, nonce)
			}
		}
		silent := newNonceSource()
		go func() { _ = silent.Close() }()
		if got := silent.latest(); got != nil {
			t.Errorf("a source that has heard nothing tells %q", got)
		}
	})
}

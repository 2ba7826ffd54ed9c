package connectivity

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

func sealers(t testing.TB, a, b tunnel.PrivateKey) (from, to *sealer) {
	t.Helper()
	from, err := newSealer(a, b.Public(), time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if to, err = newSealer(b, a.Public(), time.Unix(2000, 0)); err != nil {
		t.Fatal(err)
	}
	return from, to
}

func mustSeal(t testing.TB, s *sealer, text string) []byte {
	t.Helper()
	box, err := s.seal([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func TestSealedMessageArrives(t *testing.T) {
	from, to := sealers(t, tunnel.GenerateKey(), tunnel.GenerateKey())
	for _, text := range []string{"first", "second", ""} {
		box := mustSeal(t, from, text)
		if text != "" && bytes.Contains(box, []byte(text)) {
			t.Error("the box shows its content")
		}
		got, restarted, err := to.open(box)
		if err != nil || restarted || string(got) != text {
			t.Errorf("opened %q, %v, %v; want %q", got, restarted, err, text)
		}
	}
	if from.ownTag != to.peerTag || to.ownTag != from.peerTag || from.ownTag == to.ownTag {
		t.Error("the tags of probes do not name their senders")
	}
}

func TestBoxesAreRefused(t *testing.T) {
	a, b, stranger := tunnel.GenerateKey(), tunnel.GenerateKey(), tunnel.GenerateKey()
	from, to := sealers(t, a, b)
	_, toStranger := sealers(t, a, stranger)
	fromStranger, _ := sealers(t, stranger, b)
	first, second := mustSeal(t, from, "first"), mustSeal(t, from, "second")

	for i := range first {
		changed := slices.Clone(first)
		changed[i] ^= 0x40
		if _, _, err := to.open(changed); err == nil {
			t.Fatalf("byte %d changed and nobody noticed", i)
		}
	}
	if _, _, err := toStranger.open(first); !errors.Is(err, errBoxSeal) {
		t.Errorf("redirected to another peer: %v", err)
	}
	if _, _, err := to.open(mustSeal(t, fromStranger, "x")); !errors.Is(err, errBoxSeal) {
		t.Errorf("from a peer that pretends to be another: %v", err)
	}
	if _, _, err := from.open(first); !errors.Is(err, errBoxSeal) {
		t.Errorf("sent back to its sender: %v", err)
	}
	if _, _, err := to.open(second); err != nil {
		t.Fatal(err)
	}
	for name, box := range map[string][]byte{"again": second, "older": first} {
		if _, _, err := to.open(box); !errors.Is(err, errBoxReplay) {
			t.Errorf("%s: %v, want a replay", name, err)
		}
	}
	for name, box := range map[string][]byte{
		"empty": nil, "short": first[:boxOverhead-1], "long": make([]byte, MaximumBox+1),
	} {
		if _, _, err := to.open(box); !errors.Is(err, errBoxSize) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := from.seal(make([]byte, MaximumBox)); !errors.Is(err, errBoxSize) {
		t.Errorf("too long a message: %v", err)
	}
}

func TestRestartOfThePeerShows(t *testing.T) {
	a, b := tunnel.GenerateKey(), tunnel.GenerateKey()
	from, to := sealers(t, a, b)
	old := mustSeal(t, from, "old")
	if _, _, err := to.open(mustSeal(t, from, "x")); err != nil {
		t.Fatal(err)
	}
	again, err := newSealer(a, b.Public(), time.Unix(3000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, restarted, err := to.open(mustSeal(t, again, "y")); err != nil || !restarted {
		t.Errorf("restarted %v, %v", restarted, err)
	}
	if _, _, err := to.open(old); !errors.Is(err, errBoxReplay) {
		t.Errorf("a box of the former process: %v", err)
	}
}

func TestSmallOrderKeyIsRefused(t *testing.T) {
	if _, err := newSealer(tunnel.GenerateKey(), tunnel.PublicKey{}, time.Now()); err == nil {
		t.Error("a key of small order makes a secret that everybody knows")
	}
}

func FuzzOpen(f *testing.F) {
	from, to := sealers(f, tunnel.GenerateKey(), tunnel.GenerateKey())
	f.Add(mustSeal(f, from, "x"))
	f.Add([]byte{boxVersion})
	f.Fuzz(func(t *testing.T, box []byte) {
		if message, _, err := to.open(box); err == nil && len(message)+boxOverhead != len(box) {
			t.Errorf("%d bytes out of a box of %d", len(message), len(box))
		}
	})
}

func FuzzHello(f *testing.F) {
	full := &hello{Session: newSession(), Answers: newSession(), Ufrag: "u", Password: "p", Candidates: []string{"x"}}
	raw, err := full.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"session":"` + newSession() + `","relayed":"192.0.2.1:5"}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"post_quantum":{"mode":"strict","can":["mlkem768"],"offer":{"id":"` + newSession() + `","mechanism":"mlkem768","text":"AAAA"}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := decodeHello(raw)
		if err != nil {
			return
		}
		if !isSession(h.Session) && (h.Session != "" || h.Keys == nil) || len(h.Candidates) > maximumCandidates || len(h.Ufrag) > maximumCredential {
			t.Errorf("accepted beyond its bounds: %+v", h)
		}
		again, err := h.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeHello(again); err != nil {
			t.Errorf("does not survive its encoding: %v", err)
		}
	})
}

func TestHelloBounds(t *testing.T) {
	session := newSession()
	for name, h := range map[string]hello{
		"no session":        {},
		"odd session":       {Session: session[:31] + "G"},
		"odd answer":        {Session: session, Answers: "x"},
		"ufrag alone":       {Session: session, Ufrag: "u"},
		"long password":     {Session: session, Ufrag: "u", Password: string(make([]byte, 300))},
		"many candidates":   {Session: session, Candidates: make([]string, maximumCandidates+1)},
		"password no ufrag": {Session: session, Password: "p"},
	} {
		raw, err := h.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeHello(raw); !errors.Is(err, errHello) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

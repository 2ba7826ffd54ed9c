package connectivity

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// carried takes a part through a message.
func carried(t *testing.T, p part) part {
	t.Helper()
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest, p)
	if err != nil {
		t.Fatal(err)
	}
	got := &stun.Message{Raw: m.Raw}
	if err := got.Decode(); err != nil {
		t.Fatal(err)
	}
	var back part
	if err := back.GetFrom(got); err != nil {
		t.Fatal(err)
	}
	return back
}

func TestParcel(t *testing.T) {
	for _, size := range []int{1, parcelSize, parcelSize + 1, MaximumBox} {
		box := bytes.Repeat([]byte{7, 1}, MaximumBox/2)[:size]
		parts := inParts(3, box)
		slices.Reverse(parts)
		var c parcel
		for i, p := range parts {
			for range 2 { // each arrives twice
				got, whole := c.add(carried(t, p))
				if last := i == len(parts)-1; whole != last || whole && !bytes.Equal(got, box) {
					t.Fatalf("%d bytes, part %d of %d: whole %t", size, i, len(parts), whole)
				} else if last {
					break
				}
			}
		}
		if _, whole := c.add(parts[0]); whole {
			t.Errorf("%d bytes: a box arrives twice", size)
		}
	}
}

func TestOnlyTheNewestParcelIsKept(t *testing.T) {
	older, newer := inParts(3, make([]byte, 2*parcelSize)), inParts(4, bytes.Repeat([]byte{1}, 2*parcelSize))
	var c parcel
	c.add(older[0])
	c.add(newer[0])
	if _, whole := c.add(older[1]); whole {
		t.Error("an older box took the place of a newer one")
	}
	if _, whole := c.add(part{number: 4, at: 2, of: 3, bytes: []byte{1}}); whole {
		t.Error("a part of another number of parts was taken")
	}
	if box, whole := c.add(newer[1]); !whole || box[0] != 1 {
		t.Error("the newer box did not arrive")
	}
}

// What comes along a path twice, late or from somebody else changes nothing.
func TestReplayedParcelIsRefused(t *testing.T) {
	w := newWire()
	opts := machineOptions{mode: postquantum.Strict}
	a, b := acquainted(t, w, opts)
	a.ping(t, b)
	agrees(t, a, b)
	b.stop()
	seal, err := newSealer(b.key, a.key.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := newSealer(tunnel.GenerateKey(), a.key.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	probes := func(s *sealer, mode postquantum.Mode) (list []*stun.Message) {
		message, err := (&hello{Keys: &postquantum.Message{Mode: mode, Can: []string{"mlkem768"}}}).encode()
		if err != nil {
			t.Fatal(err)
		}
		box, err := s.seal(message)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range inParts(s.counter, box) {
			m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(probePrefix+seal.ownTag), p, stun.MessageIntegrity(s.probeKey))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, m)
		}
		return list
	}
	arrive := func(list []*stun.Message) {
		for _, m := range list {
			a.paths.answerProbe(m, tunnel.STUNMessage{Payload: m.Raw, Addr: netip.MustParseAddrPort("127.0.0.1:9")})
		}
		a.inLoop(func(context.Context) {})
	}
	off, strict := probes(seal, postquantum.Off), probes(seal, postquantum.Strict)
	arrive(off)
	a.keysAre(t, b, postquantum.Unavailable, postquantum.ReasonPeerOff)
	arrive(strict)
	wants := func(what string) {
		if s, _ := a.paths.Status("b"); s.Keys.State != postquantum.Pending {
			t.Errorf("%s: %s %s", what, s.Keys.State, s.Keys.Reason)
		}
	}
	wants("what b said last")
	arrive(off)
	wants("what b said before")
	arrive(probes(stranger, postquantum.Off))
	wants("what a stranger says")
}

func FuzzPart(f *testing.F) {
	whole, err := stun.Build(stun.TransactionID, stun.BindingRequest, inParts(1, []byte("box"))[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Raw)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := &stun.Message{Raw: raw}
		var c parcel
		var p part
		if m.Decode() != nil || p.GetFrom(m) != nil {
			return
		}
		if box, _ := c.add(p); len(box) > parcelSize || len(c.parts) > parcelParts {
			t.Errorf("%d bytes, %d parts", len(box), len(c.parts))
		}
	})
}

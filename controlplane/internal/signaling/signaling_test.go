package signaling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/bus"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
)

// accounts holds one account, acc.
type accounts struct{ engine *netmap.Engine }

func (a accounts) Engine(_ context.Context, accountID string) (*netmap.Engine, error) {
	if accountID != "acc" {
		return nil, problem.NotFound("account")
	}
	return a.engine, nil
}

// router knows the peers a, b, c and d; a sees the peers named.
func router(t *testing.T, sees ...string) *Router {
	t.Helper()
	engine, err := netmap.New(netmap.Config{Account: "acc", Epoch: "e1", Secret: make([]byte, 16)})
	if err != nil {
		t.Fatal(err)
	}
	var changes []netmap.Change
	for n, id := range []string{"a", "b", "c", "d"} {
		changes = append(changes, netmap.PeerPut{Peer: netmap.Peer{ID: id, Ordinal: uint32(n), Approved: true}})
	}
	for _, id := range sees {
		changes = append(changes, netmap.PolicyPut{Policy: netmap.Policy{ID: id, Enabled: true, Rules: []netmap.Rule{
			{ID: "r", Enabled: true, SourcePeer: "a", DestinationPeer: id},
		}}})
	}
	if err := engine.Load(1, changes); err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Bus: bus.NewLocal(), Maps: accounts{engine}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func agent(id string) auth.Principal {
	return auth.Principal{Kind: auth.KindAgent, ID: id, PeerID: id, AccountID: "acc"}
}

func kindOf(err error) problem.Kind {
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		return p.Kind
	}
	return ""
}

func TestSignalReachesTheOtherPeerInOrder(t *testing.T) {
	r := router(t, "b", "c")
	var got []string
	detach, err := r.Attach("acc", "a", func(from string, box []byte) bool {
		got = append(got, from+":"+string(box))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 5 {
		for _, from := range []string{"b", "c"} {
			box := fmt.Sprint(i)
			if err := r.Signal(t.Context(), agent(from), "a", []byte(box)); err != nil {
				t.Fatal(err)
			}
			want = append(want, from+":"+box)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	detach()
	if err := r.Signal(t.Context(), agent("b"), "a", []byte("x")); kindOf(err) != problem.KindPeerOffline {
		t.Errorf("a peer without a stream gives %v", err)
	}
}

func TestSignalIsRefused(t *testing.T) {
	r := router(t, "b")
	if _, err := r.Attach("acc", "b", func(string, []byte) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Attach("acc", "c", func(string, []byte) bool { t.Error("a hidden peer got a message"); return true }); err != nil {
		t.Fatal(err)
	}
	large := []byte(strings.Repeat("x", MaxBox+1))
	cases := map[string]struct {
		from, to string
		box      []byte
		want     problem.Kind
	}{
		"hidden peer":   {"a", "c", []byte("x"), problem.KindNotFound},
		"unknown peer":  {"a", "z", []byte("x"), problem.KindNotFound},
		"oneself":       {"a", "a", []byte("x"), problem.KindNotFound},
		"empty":         {"a", "b", nil, problem.KindInvalid},
		"too large":     {"a", "b", large, problem.KindInvalid},
		"largest":       {"a", "b", large[1:], ""},
		"other account": {"other", "b", []byte("x"), problem.KindNotFound},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := agent(c.from)
			if c.from == "other" {
				p = auth.Principal{Kind: auth.KindAgent, PeerID: "a", AccountID: "other"}
			}
			if err := r.Signal(t.Context(), p, c.to, c.box); kindOf(err) != c.want {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestFullStreamRefusesLoudly(t *testing.T) {
	r := router(t, "b")
	if _, err := r.Attach("acc", "b", func(string, []byte) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if err := r.Signal(t.Context(), agent("a"), "b", []byte("x")); kindOf(err) != problem.KindRateLimited {
		t.Errorf("got %v", err)
	}
}

func TestPairsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := router(t, "b", "c")
		for _, id := range []string{"b", "c"} {
			if _, err := r.Attach("acc", id, func(string, []byte) bool { return true }); err != nil {
				t.Fatal(err)
			}
		}
		sent := 0
		for ; sent < 10*pairBurst; sent++ {
			if err := r.Signal(t.Context(), agent("a"), "b", []byte("x")); err != nil {
				if kindOf(err) != problem.KindRateLimited {
					t.Fatal(err)
				}
				break
			}
		}
		if sent != pairBurst {
			t.Errorf("%d messages passed at once, want %d", sent, pairBurst)
		}
		if err := r.Signal(t.Context(), agent("a"), "c", []byte("x")); err != nil {
			t.Errorf("another pair is limited too: %v", err)
		}
		time.Sleep(time.Second)
		for i := range pairPerSecond {
			if err := r.Signal(t.Context(), agent("a"), "b", []byte("x")); err != nil {
				t.Fatalf("message %d after a second: %v", i, err)
			}
		}
		if err := r.Signal(t.Context(), agent("a"), "b", []byte("x")); kindOf(err) != problem.KindRateLimited {
			t.Errorf("got %v", err)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack("peer", []byte("box")))
	f.Add([]byte{0})
	f.Add([]byte{255, 255, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		from, box, ok := unpack(data)
		if ok && string(pack(from, box)) != string(data) {
			t.Errorf("%x is read as %q and %x", data, from, box)
		}
	})
}

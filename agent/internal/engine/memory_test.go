package engine

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/generated/api"
)

func TestPathsSurviveARestart(t *testing.T) {
	l, _, store := newTestLink(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	memory := newPathMemory(l.log, store, "p1", now)
	if len(memory.known()) != 0 {
		t.Fatalf("known at the first start: %v", memory.known())
	}
	good := api.RelayServer{Id: "good", Expires: now.Add(time.Hour), Urls: []string{"turn:192.0.2.1:3478"}}
	memory.setRelays([]api.RelayServer{good, {Id: "stale", Expires: now.Add(time.Minute)}})
	want := []connectivity.Known{
		{PeerID: "p2", Direct: netip.MustParseAddrPort("192.0.2.7:51820"), Awake: true},
		{PeerID: "p3", Relayed: netip.MustParseAddrPort("[2001:db8::1]:40000")},
	}
	raw, err := memory.encode("p1", want)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.SavePaths(raw); err != nil {
		t.Fatal(err)
	}
	later := newPathMemory(l.log, store, "p1", now.Add(2*time.Minute))
	if diff := cmp.Diff(want, later.known(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]api.RelayServer{good}, later.former.Relays, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("relays, of which one has expired: %s", diff)
	}
	if other := newPathMemory(l.log, store, "p9", now); len(other.known()) != 0 || len(other.former.Relays) != 0 {
		t.Error("another peer on this machine took the paths over")
	}
	if err := store.SavePaths([]byte(`{"self":"p1","peers":[{"id":7`)); err != nil {
		t.Fatal(err)
	}
	if broken := newPathMemory(slog.New(slog.DiscardHandler), store, "p1", now); len(broken.known()) != 0 {
		t.Error("half a file was taken")
	}
}

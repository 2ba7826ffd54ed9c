package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/agent/internal/forward"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// newMap is the map of machine 1 that sees the given machines, each of which
// may reach it.
func newMap(t testing.TB, serial int64, peers ...uint32) *mapstate.Map {
	t.Helper()
	stored := struct {
		Epoch  string             `json:"epoch"`
		Serial int64              `json:"serial"`
		Digest string             `json:"digest"`
		Self   api.SelfView       `json:"self"`
		Peers  []api.PeerEntry    `json:"peers"`
		Sets   []api.PeerSet      `json:"sets"`
		Rules  []api.CompiledRule `json:"rules"`
	}{
		Epoch: "1-a", Serial: serial,
		Self: api.SelfView{
			N: 1, Id: "p1", Name: "one", Ip: "100.64.0.1", Ipv6: "fd00:64::1", Approved: true,
			Network: "100.64.0.0/16", NetworkV6: "fd00:64::/64", DnsDomain: "mesh.example",
		},
	}
	for _, n := range peers {
		stored.Peers = append(stored.Peers, api.PeerEntry{
			N: n, Id: fmt.Sprint("p", n), Name: fmt.Sprint("m", n), Key: tunnel.GenerateKey().Public().String(),
			Ip: fmt.Sprint("100.64.0.", n), Ipv6: fmt.Sprintf("fd00:64::%x", n),
		})
	}
	stored.Sets = []api.PeerSet{{Id: "s", Members: api.Ordinals{List: &peers}}}
	stored.Rules = []api.CompiledRule{{Id: "r", Direction: "both", Source: "s", Destination: "s", Action: "accept", Protocol: "all"}}
	for {
		raw, err := json.Marshal(stored)
		if err != nil {
			t.Fatal(err)
		}
		m := &mapstate.Map{}
		err = json.Unmarshal(raw, m)
		if err == nil {
			return m
		}
		// The first attempt tells the digest.
		var digest string
		if _, scanErr := fmt.Sscanf(err.Error(), mapstate.ErrDigest.Error()+": it is %32s", &digest); scanErr != nil || digest == stored.Digest {
			t.Fatal(err)
		}
		stored.Digest = digest
	}
}

// newTestLink is a link on a fake machine, without a session.
func newTestLink(t *testing.T) (*link, *Fake, *identity.Store) {
	t.Helper()
	store, err := identity.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	fake := &Fake{}
	machine, err := fake.Open(MachineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	fake.Calls()
	l := &link{
		log: slog.New(slog.DiscardHandler), store: store, machine: machine, overlay: &overlay{}, wall: time.Now, changed: func() {},
		newest: make(chan *mapstate.Map, 1), saves: make(chan *mapstate.Map, 1), again: make(chan struct{}, 1), urgent: make(chan chan struct{}),
		routers: newRouters(machine), under: (&Engine{config: Config{Settings: &settings.Book{}}}).under,
	}
	if l.forward, err = forward.New(forward.Options{Logger: l.log, Overlay: l}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.forward.Close() })
	return l, fake, store
}

func TestFirewallGoesFirst(t *testing.T) {
	l, fake, _ := newTestLink(t)
	for _, peers := range [][]uint32{{2}, {2, 3}, {3}, {}} {
		if faults := l.apply(t.Context(), newMap(t, 1, peers...)); len(faults) != 0 {
			t.Fatal(faults)
		}
		if diff := cmp.Diff([]string{"firewall", "tunnel", "paths", "names"}, fake.Calls()); diff != "" {
			t.Errorf("order for %v: %s", peers, diff)
		}
		if fake.tunnel.Peers.Len() != len(peers) || fake.peers.Len() != len(peers) || fake.firewall.Peers.Len() != len(peers)+1 {
			t.Errorf("%d, %d and %d peers for %v", fake.tunnel.Peers.Len(), fake.peers.Len(), fake.firewall.Peers.Len(), peers)
		}
	}
}

func TestWhatThePartsAreTold(t *testing.T) {
	l, fake, _ := newTestLink(t)
	m := newMap(t, 1, 1, 2) // this machine stands in a set that it sees
	if faults := l.apply(t.Context(), m); len(faults) != 0 {
		t.Fatal(faults)
	}
	want := []netip.Prefix{netip.MustParsePrefix("100.64.0.1/16"), netip.MustParsePrefix("fd00:64::1/64")}
	if diff := cmp.Diff(want, fake.tunnel.Addresses, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	allowed := []netip.Prefix{netip.MustParsePrefix("100.64.0.2/32"), netip.MustParsePrefix("fd00:64::2/128")}
	if fake.tunnel.Peers.Len() != 1 {
		t.Fatalf("%d peers, want one", fake.tunnel.Peers.Len())
	}
	key, err := tunnel.ParsePublicKey(m.Peers.At(2).Key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(allowed, fake.tunnel.Peers.At(key).AllowedIPs, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if !l.overlay.contains(netip.MustParseAddr("100.64.9.9")) || l.overlay.contains(netip.MustParseAddr("192.0.2.1")) {
		t.Error("the range of the network is not known")
	}
	if fake.names.Hosts.Len() != 2 || fake.names.Domain != "mesh.example" {
		t.Errorf("names %+v", fake.names)
	}
}

func TestFirewallThatFailsKeepsEverythingElse(t *testing.T) {
	l, fake, _ := newTestLink(t)
	fake.FailNext("firewall", errInjected)
	if faults := l.apply(t.Context(), newMap(t, 1, 2)); len(faults) != 1 {
		t.Errorf("faults %v", faults)
	}
	if diff := cmp.Diff([]string{"firewall"}, fake.Calls()); diff != "" {
		t.Error(diff)
	}
}

func TestResolverThatFailsKeepsNobodyOut(t *testing.T) {
	l, fake, _ := newTestLink(t)
	fake.FailNext("names", errInjected)
	if faults := l.apply(t.Context(), newMap(t, 1, 2)); len(faults) != 1 {
		t.Errorf("faults %v", faults)
	}
	if fake.tunnel.Peers.Len() != 1 {
		t.Error("the peer is not in the tunnel")
	}
}

func TestFailureIsTriedAgainAndTheMapKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, fake, store := newTestLink(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{}, 2)
		go func() { l.applyNewest(ctx); done <- struct{}{} }()
		go func() { l.saveNewest(ctx); done <- struct{}{} }()
		fake.FailNext("tunnel", errInjected)
		l.give(newMap(t, 1, 2))
		synctest.Wait()
		if _, _, _, faults := l.snapshot(); len(faults) == 0 {
			t.Error("no fault")
		}
		time.Sleep(retryApply + time.Millisecond)
		synctest.Wait()
		_, _, applied, faults := l.snapshot()
		if len(faults) != 0 || applied == nil {
			t.Errorf("not applied again: %v", faults)
		}
		fake.Calls()
		for serial := range int64(5) { // only the newest counts
			l.give(newMap(t, serial+2, 2, 3))
		}
		synctest.Wait()
		cancel()
		<-done
		<-done
		raw, err := store.LoadMap()
		if err != nil {
			t.Fatal(err)
		}
		kept := &mapstate.Map{}
		if err := json.Unmarshal(raw, kept); err != nil || kept.Serial != 6 {
			t.Errorf("kept serial %d: %v", kept.Serial, err)
		}
	})
}

func TestPing(t *testing.T) {
	l, _, store := newTestLink(t)
	l.apply(t.Context(), newMap(t, 1, 2))
	e, err := New(Config{Logger: slog.New(slog.DiscardHandler), Store: store, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	e.link = l
	for _, name := range []string{"m2", "m2.mesh.example", "100.64.0.2", "fd00:64::2"} {
		var got []local.PingReply
		err := e.Ping(t.Context(), local.PingRequest{Peer: name, Count: 2, IntervalMillis: 1}, func(r local.PingReply) error {
			got = append(got, r)
			return nil
		})
		if err != nil || len(got) != 2 || got[1].Sequence != 2 || got[0].RTTMillis != 1 || got[0].Path != "direct" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"m3", "100.64.0.3", "one"} {
		if err := e.Ping(t.Context(), local.PingRequest{Peer: name, Count: 1}, nil); err == nil {
			t.Errorf("%s was pinged", name)
		}
	}
}

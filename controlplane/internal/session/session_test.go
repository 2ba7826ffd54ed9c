package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

func TestStreamBeginsWithTheMap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		defer p.end()
		a := p.connect("a")
		expect(t, "first stream", a.read(), "hello snapshot_ref caught_up")
		a.check()
		if a.state.Peers.Len() != 2 || a.state.Rules.Len() != 1 {
			t.Errorf("the map is %+v", a.state)
		}
		var hello api.HelloEvent
		if err := json.Unmarshal(a.lines[0], &hello); err != nil || hello.Epoch != "e1" || hello.Api != 1 || hello.HeartbeatSeconds != 45 || hello.Relays == nil {
			t.Errorf("hello is %s, error %v", a.lines[0], err)
		}
		a.stop()
		<-a.done
		if a.err != nil {
			t.Error(a.err)
		}
		a.connect(0)
		expect(t, "the same map again", a.read(), "hello caught_up")
		a.stop()
		<-a.done
		p.apply(peer("e", 5), netmap.MembersAdd{Group: "ab", Peers: []string{"e"}})
		a.connect(0)
		expect(t, "an older map", a.read(), "hello delta caught_up")
		a.check()
		a.state.Epoch = "e0"
		a.stop()
		<-a.done
		a.connect(0)
		expect(t, "another epoch", a.read(), "hello snapshot_ref caught_up")
		a.check()
	})
}

func TestRestartCostsNoMap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		a := p.connect("a")
		p.end()
		<-a.done
		restarted := newPlane(t, 0)
		defer restarted.end()
		a.plane = restarted
		a.connect(0)
		expect(t, "after a restart", a.read(), "hello caught_up")
		bytes := 0
		for _, line := range a.lines {
			bytes += len(line)
		}
		if bytes > 512 {
			t.Errorf("going on costs %d bytes, the budget is 512", bytes)
		}
		restarted.apply(netmap.MembersRemove{Group: "ab", Peers: []string{"b"}})
		expect(t, "the next change", a.read(), "delta")
		a.check()
		if got := restarted.sessions.Stats(); got.Resumed != 1 || got.Snapshots != 0 || got.Deltas != 1 {
			t.Errorf("a map that went on is counted as %+v", got)
		}
	})
}

func TestOnlyAffectedPeersHear(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		defer p.end()
		agents := map[string]*agent{}
		for _, id := range []string{"a", "b", "c", "d"} {
			agents[id] = p.connect(id)
			agents[id].read()
		}
		steps := []struct {
			what    string
			change  []netmap.Change
			hearing string
		}{
			{"a peer joins ab", []netmap.Change{peer("e", 5), netmap.MembersAdd{Group: "ab", Peers: []string{"e"}}}, "a b"},
			{"a peer joins cd, which no policy names", []netmap.Change{peer("f", 6), netmap.MembersAdd{Group: "cd", Peers: []string{"f"}}}, ""},
			{"a policy from cd to ab", []netmap.Change{allow("p-cd", "cd", "ab")}, "a b c d"},
			{"the same policy again", []netmap.Change{allow("p-cd", "cd", "ab")}, ""},
			{"c gets a name", []netmap.Change{netmap.PeerPut{Peer: netmap.Peer{ID: "c", Ordinal: 3, Key: "key-c", Name: "sea", Approved: true, IP: netip.MustParseAddr("100.64.0.3")}}}, "a b c"},
			{"a group nobody uses", []netmap.Change{netmap.GroupPut{ID: "x", Members: []string{"a", "d"}}}, ""},
			{"the policy goes", []netmap.Change{netmap.PolicyRemove{ID: "p-cd"}}, "a b c d"},
			{"a resource without a router", []netmap.Change{resource("r1", "w1", "10.0.0.0/24", "res"), netmap.GroupPut{ID: "res"}}, ""},
			{"a router, which no policy needs yet", []netmap.Change{router("v1", "w1", "d", 10)}, "d"},
			{"a policy from ab to the group of the resource", []netmap.Change{allow("p-res", "ab", "res")}, "a b d"},
			{"another resource in no group", []netmap.Change{resource("r2", "w1", "10.9.0.0/24")}, "d"},
			{"a resource of another network", []netmap.Change{resource("r3", "w2", "10.8.0.0/24", "res")}, ""},
			{"the resource moves", []netmap.Change{resource("r1", "w1", "10.1.0.0/24", "res")}, "a b d"},
			{"the router gets another metric", []netmap.Change{router("v1", "w1", "d", 20)}, "a b"},
			{"a second router", []netmap.Change{router("v2", "w1", "c", 20)}, "a b c"},
			{"the second router goes", []netmap.Change{netmap.RouterRemove{ID: "v2"}}, "a b c"},
			{"the policy to the resource goes", []netmap.Change{netmap.PolicyRemove{ID: "p-res"}}, "a b d"},
			{"a route for cd through a", []netmap.Change{netmap.RoutePut{Route: netmap.Route{ID: "t1", NetworkID: "lan", Prefix: netip.MustParsePrefix("10.7.0.0/16"), Peer: "a", Groups: []string{"cd"}, Metric: 1}}}, "a c d"},
			{"the route goes", []netmap.Change{netmap.RouteRemove{ID: "t1"}}, "a c d"},
			{"the router goes", []netmap.Change{netmap.RouterRemove{ID: "v1"}}, "d"},
			{"e leaves", []netmap.Change{netmap.PeerRemove{ID: "e"}}, "a b"},
			{"a waits for approval", []netmap.Change{netmap.PeerPut{Peer: netmap.Peer{ID: "a", Ordinal: 1, Key: "key-a", Name: "a", IP: netip.MustParseAddr("100.64.0.1")}}}, "a b"},
		}
		for _, step := range steps {
			p.apply(step.change...)
			time.Sleep(time.Second)
			var hearing []string
			for _, id := range []string{"a", "b", "c", "d"} {
				if lines := agents[id].read(); lines == "delta" {
					hearing = append(hearing, id)
				} else if lines != "" {
					t.Errorf("%s: %s got lines %q", step.what, id, lines)
				}
				agents[id].check()
			}
			if got := strings.Join(hearing, " "); got != step.hearing {
				t.Errorf("%s: %q hear of it, want %q", step.what, got, step.hearing)
			}
		}
	})
}

func resource(id, network, prefix string, groups ...string) netmap.ResourcePut {
	return netmap.ResourcePut{Resource: netmap.Resource{ID: id, Network: network, Prefix: netip.MustParsePrefix(prefix), Groups: groups}}
}

func router(id, network, peer string, metric int) netmap.RouterPut {
	return netmap.RouterPut{Router: netmap.Router{ID: id, Network: network, Peer: peer, Metric: metric}}
}

// TestAgentsGetWhatTheyOffer follows one machine through three versions of its agent while it uses a route.
func TestAgentsGetWhatTheyOffer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		defer p.end()
		p.apply(netmap.GroupPut{ID: "res"}, resource("r1", "w1", "10.0.0.0/24", "res"), router("v1", "w1", "d", 10), allow("p-res", "ab", "res"))
		a := p.agent("a")
		a.features = []string{"sets", "levitation"}
		come := func(what, lines string, routes int) {
			t.Helper()
			a.connect(0)
			expect(t, what, a.read(), lines)
			a.check()
			if a.state.Routes.Len() != routes {
				t.Errorf("%s: the map has %d routes, want %d", what, a.state.Routes.Len(), routes)
			}
			a.stop()
			<-a.done
		}
		come("an agent that knows no routes", "hello snapshot_ref caught_up", 0)
		come("the same again", "hello caught_up", 0)
		p.apply(resource("r1", "w1", "10.1.0.0/24", "res"))
		come("after a change of what it does not know", "hello caught_up", 0)
		a.features = mapstate.Features()
		come("an agent that knows routes", "hello snapshot_ref caught_up", 1)
		p.apply(resource("r1", "w1", "10.2.0.0/24", "res"))
		come("after a change of what it knows", "hello delta caught_up", 1)
		a.features = []string{}
		come("an agent of the first version", "hello snapshot_ref caught_up", 0)
	})
}

// An agent that knows nothing of keys that change hears nothing of them: it would not get the digest of the map, and ask
// for a whole one while any machine that it sees replaces its key.
func TestRotationIsToldToThoseWhoKnow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		defer p.end()
		old, young := p.agent("a"), p.agent("b")
		old.features = []string{"sets", "routes", "dns"}
		for _, a := range []*agent{old, young} {
			a.connect(0)
			expect(t, "the beginning", a.read(), "hello snapshot_ref caught_up")
		}
		rotate := func(id, key, next, told string) {
			t.Helper()
			put := peer(id, map[string]uint32{"a": 1, "b": 2}[id])
			put.Peer.Key, put.Peer.NextKey = key, next
			p.apply(put)
			time.Sleep(time.Second) // changes that follow each other are merged
			expect(t, "an agent that knows of next keys", young.read(), "delta")
			expect(t, "one that does not", old.read(), told)
			old.check()
			young.check()
		}
		rotate("a", "key-a", "next-a", "")
		rotate("b", "key-b", "next-b", "")
		if n := young.state.Peers.At(1).NextKey; n != "next-a" || young.state.Self.NextKey != "next-b" {
			t.Errorf("next keys %q and %q", n, young.state.Self.NextKey)
		}
		p.apply(netmap.SettingsPut{Settings: netmap.Settings{DNSDomain: "wattle.internal", KeyRotationDays: 30, PostQuantum: "strict", KeepPaths: true}})
		time.Sleep(time.Second)
		expect(t, "an agent that knows of settings", young.read(), "delta")
		expect(t, "one that does not", old.read(), "")
		rotate("b", "next-b", "", "delta")
		old.stop()
		<-old.done
		old.connect(0)
		expect(t, "the same agent again", old.read(), "hello caught_up")
		old.check()
		if self := old.state.Self; self.KeyRotationDays != 0 || self.PostQuantum != "" || self.NextKey != "" || self.KeepsPaths {
			t.Errorf("it was told %+v", self)
		}
	})
}

func TestBurstIsCoalesced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		defer p.end()
		a := p.connect("a")
		a.read()
		p.apply(peer("e", 5), netmap.MembersAdd{Group: "ab", Peers: []string{"e"}})
		expect(t, "the first change", a.read(), "delta")
		for i := range 1000 {
			p.apply(netmap.PeerPut{Peer: netmap.Peer{ID: "e", Ordinal: 5, Key: "key-e", Name: fmt.Sprint("e", i), Approved: true}})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		if got := strings.Count(a.read(), "delta"); got > 8 {
			t.Errorf("a burst of a second gave %d deltas", got)
		}
		a.check()
		p.apply(netmap.PeerPut{Peer: netmap.Peer{ID: "e", Ordinal: 5, Key: "key-e", Name: "last", Approved: true}})
		expect(t, "a change after a quiet time", a.read(), "delta")
		p.apply(netmap.PeerPut{Peer: netmap.Peer{ID: "e", Ordinal: 5, Key: "key-e", Name: "e", Approved: true}})
		expect(t, "a change inside the window", a.read(), "")
		p.apply(netmap.MembersRemove{Group: "ab", Peers: []string{"e"}})
		expect(t, "lost access inside the window", a.read(), "delta")
		a.check()
	})
}

func TestByes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		first := p.connect("a")
		second := p.connect("a")
		var bye api.ByeEvent
		expect(t, "a replaced stream", first.read(), "hello snapshot_ref caught_up bye")
		if first.last(&bye); bye.Reason != api.ByeEventReasonReplaced {
			t.Errorf("got %+v", bye)
		}
		<-first.done
		expect(t, "the stream that replaces it", second.read(), "hello snapshot_ref caught_up")
		if got := p.sessions.Stats(); got.Connected != 1 || got.Opened != 2 || got.Replaced != 1 || got.Snapshots != 2 {
			t.Errorf("two streams of one agent are counted as %+v", got)
		}

		b := p.agent("b")
		b.connect(25)
		synctest.Wait()
		time.Sleep(24 * time.Second)
		expect(t, "before its time", b.read(), "hello snapshot_ref caught_up")
		time.Sleep(2 * time.Second)
		expect(t, "after its time", b.read(), "bye")
		if b.last(&bye); bye.Reason != api.ByeEventReasonExpired {
			t.Errorf("got %+v", bye)
		}

		c := p.connect("c")
		c.read()
		p.apply(netmap.PeerRemove{ID: "c"})
		expect(t, "a removed peer", c.read(), "bye")
		if c.last(&bye); bye.Reason != api.ByeEventReasonRemoved {
			t.Errorf("got %+v", bye)
		}
		c.connect(0)
		<-c.done
		if p, ok := errors.AsType[*problem.Problem](c.err); !ok || p.Kind != problem.KindNotFound {
			t.Errorf("a removed peer comes back and gets %v", c.err)
		}

		p.end()
		expect(t, "shutdown", second.read(), "bye")
		if second.last(&bye); bye.Reason != api.ByeEventReasonShutdown || bye.RetryAfter < 1 {
			t.Errorf("got %+v", bye)
		}
		second.connect(0)
		<-second.done
		if p, ok := errors.AsType[*problem.Problem](second.err); !ok || p.Kind != problem.KindUnavailable {
			t.Errorf("a stream to a stopped server gets %v", second.err)
		}
		if got := strings.Join(p.presence, ", "); got != "a true, a true, a false, b true, b false, c true, c false, a false" {
			t.Errorf("presence was told %q", got)
		}
	})
}

func TestSilenceIsBroken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		defer p.end()
		p.relays = []api.RelayServer{{Id: "r1", Urls: []string{"turn:192.0.2.1:3478?transport=udp"}}}
		a := p.connect("a")
		var hello api.HelloEvent
		if err := json.Unmarshal(a.lines[0], &hello); err != nil || len(hello.Relays) != 1 || hello.Relays[0].Username != "acc.a" {
			t.Errorf("hello is %s, error %v", a.lines[0], err)
		}
		a.read()
		time.Sleep(29 * time.Second)
		expect(t, "29 s", a.read(), "")
		time.Sleep(16*time.Second + time.Millisecond)
		expect(t, "45 s", a.read(), "ping")
		time.Sleep(29 * time.Minute)
		if strings.Contains(a.read(), "relays") {
			t.Error("credentials of an hour are renewed before half of it is over")
		}
		time.Sleep(time.Minute)
		if got := a.read(); !strings.Contains(got, "relays") {
			t.Errorf("half of the life of the credentials is over, and the lines are %q", got)
		}
	})
}

func TestSignalsArriveBetweenDeltas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		defer p.end()
		a := p.connect("a")
		a.read()
		b := p.agent("b").principal()
		for _, box := range []string{"one", "two"} {
			if err := p.router.Signal(t.Context(), b, "a", []byte(box)); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, "two signals", a.read(), "signal signal")
		if got := p.sessions.Stats().Signals; got != 2 {
			t.Errorf("two signals are counted as %d", got)
		}
		var signal api.SignalEvent
		if a.last(&signal); signal.From != "b" || string(signal.Box) != "two" {
			t.Errorf("got %+v", signal)
		}
		a.gate <- struct{}{}
		refused := 0
		for range 2 * signalQueue {
			if p.router.Signal(t.Context(), b, "a", []byte("x")) != nil {
				refused++
			}
			time.Sleep(100 * time.Millisecond)
		}
		<-a.gate
		if refused == 0 || refused > signalQueue {
			t.Errorf("%d of %d signals to a stalled stream were refused", refused, 2*signalQueue)
		}
	})
}

// TestEveryReaderEndsEqual lets many changes meet a fast reader, one whose connection breaks again and again, and one
// that stalls. Nobody misses the end.
func TestEveryReaderEndsEqual(t *testing.T) {
	for name, logEntries := range map[string]int{"long log": 0, "short log": 20} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) { everyReader(t, logEntries) })
		})
	}
}

func everyReader(t *testing.T, logEntries int) {
	p := newPlane(t, logEntries)
	p.apply(netmap.MembersAdd{Group: "ab", Peers: []string{"c"}})
	fast, flapping, stalled := p.connect("a"), p.connect("b"), p.connect("c")
	stalled.gate <- struct{}{}
	for i := range 300 {
		name := fmt.Sprint("x", i%40)
		switch {
		case i%3 == 2 && i%40 > 20:
			p.apply(netmap.PeerRemove{ID: name})
		default:
			p.apply(peer(name, uint32(100+i%40)), netmap.MembersAdd{Group: "ab", Peers: []string{name}})
		}
		if i%50 == 0 {
			p.apply(allow(fmt.Sprint("p", i%4), "ab", []string{"ab", "cd"}[i%2]))
		}
		if i%7 == 0 {
			flapping.stop()
			<-flapping.done
			flapping.connect(0)
		}
		time.Sleep(20 * time.Millisecond)
	}
	<-stalled.gate
	time.Sleep(5 * time.Second)
	var bye api.ByeEvent
	if stalled.last(&bye); bye.Type == api.ByeEventTypeBye {
		if bye.Reason != api.ByeEventReasonLagging || logEntries == 0 {
			t.Errorf("the stalled stream ended with %+v", bye)
		}
		<-stalled.done
		if got := p.sessions.Stats().Lagged; got != 1 {
			t.Errorf("a stream that lags is counted as %d", got)
		}
		stalled.connect(0)
	} else if logEntries > 0 {
		t.Errorf("the stalled stream went on although the log is short: %q", stalled.read())
	}
	time.Sleep(5 * time.Second)
	for _, a := range []*agent{fast, flapping, stalled} {
		synctest.Wait()
		a.check()
	}
	p.end()
}

func TestBrokenLineEndsTheStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		defer p.end()
		a := p.agent("a")
		a.failAfter = 3
		a.connect(0)
		synctest.Wait()
		p.apply(netmap.MembersRemove{Group: "ab", Peers: []string{"b"}})
		<-a.done
		if a.err == nil {
			t.Error("a line that does not leave is no error")
		}
		if got := p.sessions.Stats().Connected; got != 0 {
			t.Errorf("%d streams are left", got)
		}
	})
}

func TestBlobsAreForThoseWhoSeeThem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		defer p.end()
		a := p.connect("a")
		var ref api.SnapshotRefEvent
		if err := json.Unmarshal(a.lines[1], &ref); err != nil {
			t.Fatal(err)
		}
		p.apply(peer("e", 5), netmap.MembersAdd{Group: "ab", Peers: []string{"e"}})
		for _, part := range ref.Blobs {
			if _, err := p.sessions.Blob(t.Context(), a.principal(), part.Sha256); err != nil {
				t.Errorf("a part that the stream named is gone: %v", err)
			}
			if _, err := p.sessions.Blob(t.Context(), p.agent("c").principal(), part.Sha256); err == nil {
				t.Errorf("a peer reads a %s that it does not see", part.Kind)
			}
		}
	})
}

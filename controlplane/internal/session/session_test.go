package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/bus"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/signaling"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// A plane is one account with sessions, signaling and simulated agents, inside a synctest bubble.
type plane struct {
	t        *testing.T
	config   netmap.Config
	engine   *netmap.Engine
	sessions *Sessions
	router   *signaling.Router
	relays   []api.RelayServer

	mu       sync.Mutex
	notify   func(string, *netmap.Update)
	presence []string
	serial   int64
	agents   sync.WaitGroup
}

func (p *plane) Engine(_ context.Context, accountID string) (*netmap.Engine, error) {
	if accountID != "acc" {
		return nil, problem.NotFound("account")
	}
	return p.engine, nil
}

func (p *plane) Subscribe(notify func(string, *netmap.Update)) func() {
	p.notify = notify
	return func() { p.notify = func(string, *netmap.Update) {} }
}

func (p *plane) SetPresence(peerID, _ string, connected bool, _ netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.presence = append(p.presence, fmt.Sprintf("%s %t", peerID, connected))
}

// newPlane knows the peers a, b, c and d; a and b stand in group ab, c and d in group cd. The members of ab reach each
// other.
func newPlane(t *testing.T, logEntries int) *plane {
	t.Helper()
	p := &plane{t: t, serial: 1, config: netmap.Config{Account: "acc", Epoch: "e1", Secret: make([]byte, 16), LogEntries: logEntries}}
	p.restart([]netmap.Change{
		netmap.SettingsPut{Settings: netmap.Settings{DNSDomain: "wattle.internal"}},
		peer("a", 1), peer("b", 2), peer("c", 3), peer("d", 4),
		netmap.GroupPut{ID: "ab", Members: []string{"a", "b"}},
		netmap.GroupPut{ID: "cd", Members: []string{"c", "d"}},
		allow("p-ab", "ab", "ab"),
	})
	return p
}

func (p *plane) restart(changes []netmap.Change) {
	p.t.Helper()
	engine, err := netmap.New(p.config)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := engine.Load(p.serial, changes); err != nil {
		p.t.Fatal(err)
	}
	p.engine = engine
	if p.router, err = signaling.New(signaling.Config{Bus: bus.NewLocal(), Maps: p}); err != nil {
		p.t.Fatal(err)
	}
	p.sessions, err = New(Config{
		Maps: p, Presence: p, Signals: p.router, Log: slog.New(slog.DiscardHandler), Version: "1.2.3",
		Relays: func(account, peer string) []api.RelayServer {
			relays := slices.Clone(p.relays)
			for i := range relays {
				relays[i].Username = account + "." + peer
				relays[i].Expires = time.Now().Add(time.Hour)
			}
			return relays
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

func peer(id string, n uint32) netmap.PeerPut {
	return netmap.PeerPut{Peer: netmap.Peer{ID: id, Ordinal: n, Key: "key-" + id, Name: id, Approved: true, IP: netip.AddrFrom4([4]byte{100, 64, 0, byte(n)})}}
}

func allow(id, from, to string) netmap.PolicyPut {
	return netmap.PolicyPut{Policy: netmap.Policy{ID: id, Enabled: true, Rules: []netmap.Rule{
		{ID: "r", Enabled: true, Protocol: "tcp", Sources: []string{from}, Destinations: []string{to}},
	}}}
}

func (p *plane) apply(changes ...netmap.Change) {
	p.t.Helper()
	p.serial++
	update, err := p.engine.Apply(p.serial, changes...)
	if err != nil {
		p.t.Fatal(err)
	}
	p.notify("acc", update)
}

// An agent reads a stream as a machine would, and keeps its map over several streams.
type agent struct {
	plane *plane
	id    string
	done  chan struct{}
	err   error
	stop  context.CancelFunc

	mu    sync.Mutex
	state *mapstate.Map
	kinds []string
	lines [][]byte
	fault error
	// gate is taken for a line; while somebody else holds it the network is stalled. A channel, since waiting for a
	// mutex does not let the time of a bubble go on.
	gate chan struct{}
	// failAfter makes every line beyond that number an error; zero means never.
	failAfter int
}

func (p *plane) agent(id string) *agent {
	return &agent{plane: p, id: id, gate: make(chan struct{}, 1)}
}

func (p *plane) connect(id string) *agent {
	p.t.Helper()
	a := p.agent(id)
	a.connect(0)
	synctest.Wait()
	return a
}

// connect opens a stream from the map that the agent has.
func (a *agent) connect(wait int) {
	a.kinds, a.lines, a.done, a.err = nil, nil, make(chan struct{}), nil
	params := api.StreamAgentParams{Wait: &wait}
	if a.state != nil {
		at := a.state.Position()
		params.Epoch, params.Serial, params.Digest = &at.Epoch, &at.Serial, &at.Digest
	}
	var ctx context.Context
	ctx, a.stop = context.WithCancel(a.plane.t.Context())
	a.plane.agents.Go(func() {
		defer close(a.done)
		a.err = a.plane.sessions.Serve(ctx, a.principal(), params, netip.MustParseAddr("192.0.2.1"), a)
	})
}

func (a *agent) principal() auth.Principal {
	return auth.Principal{Kind: auth.KindAgent, ID: a.id, PeerID: a.id, AccountID: "acc"}
}

func (a *agent) WriteLine(line []byte) error {
	a.gate <- struct{}{}
	defer func() { <-a.gate }()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failAfter > 0 && len(a.lines) >= a.failAfter {
		return errors.New("the connection is gone")
	}
	if !bytes.HasSuffix(line, []byte("\n")) || bytes.Count(line, []byte("\n")) != 1 {
		a.fault = fmt.Errorf("%q is not one line", line)
	}
	var event struct{ Type string }
	if err := json.Unmarshal(line, &event); err != nil {
		a.fault = err
	}
	a.kinds, a.lines = append(a.kinds, event.Type), append(a.lines, bytes.Clone(line))
	switch event.Type {
	case "snapshot_ref":
		a.load(line)
	case "delta":
		var delta api.DeltaEvent
		a.fault = errors.Join(a.fault, json.Unmarshal(line, &delta), a.state.Apply(delta))
	}
	return nil
}

func (a *agent) load(line []byte) {
	var ref api.SnapshotRefEvent
	if err := json.Unmarshal(line, &ref); err != nil {
		a.fault = err
		return
	}
	state, err := mapstate.Load(ref, func(part api.BlobRef) ([]byte, error) {
		return a.plane.sessions.Blob(a.plane.t.Context(), a.principal(), part.Sha256)
	})
	a.state, a.fault = state, errors.Join(a.fault, err)
}

// read returns the kinds of the lines so far and forgets them.
func (a *agent) read() string {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	kinds := strings.Join(a.kinds, " ")
	a.kinds = nil
	return kinds
}

// check compares the agent's map with the engine's.
func (a *agent) check() {
	a.plane.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fault != nil {
		a.plane.t.Fatalf("agent %s: %v", a.id, a.fault)
	}
	want, err := a.plane.engine.Position(a.id)
	if err != nil {
		a.plane.t.Fatal(err)
	}
	if got := a.state.Digest().String(); got != want.Digest {
		a.plane.t.Errorf("agent %s has a map of digest %s at serial %d, want %s", a.id, got, a.state.Serial, want.Digest)
	}
}

func (a *agent) last(into any) {
	a.plane.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := json.Unmarshal(a.lines[len(a.lines)-1], into); err != nil {
		a.plane.t.Fatal(err)
	}
}

func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func (p *plane) end() {
	p.t.Helper()
	if err := p.sessions.Close(); err != nil {
		p.t.Error(err)
	}
	p.agents.Wait()
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got lines %q, want %q", what, got, want)
	}
}

func TestStreamBeginsWithTheMap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPlane(t, 0)
		defer p.end()
		a := p.connect("a")
		expect(t, "first stream", a.read(), "hello snapshot_ref caught_up")
		a.check()
		if len(a.state.Peers) != 2 || len(a.state.Rules) != 1 {
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

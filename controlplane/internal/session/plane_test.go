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
	// features are what the agent offers; nil means everything.
	features []string
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
	features := mapstate.Features()
	if a.features != nil {
		features = a.features
	}
	params := api.StreamAgentParams{Wait: &wait, Features: &features}
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
	if err == nil {
		for _, fault := range state.Faults() {
			err = errors.Join(err, fault.Err)
		}
	}
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

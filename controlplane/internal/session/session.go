// Package session serves the stream of each connected agent: the map as snapshot and deltas, signals, relays.
//
// One stream, from its first line to its last:
//
//	          ┌───────┐ map as stored   ┌────────┐        ┌───────────┐
//	hello ──> │ RESUME│ ──deltas──────> │        │        │           │──wake──> deltas since the cursor
//	          │   ?   │                 │CAUGHT  │──────> │   LIVE    │──signal─> signal
//	          └───────┘ none, other ──> │  UP    │        │           │──half life of credentials──> relays
//	              └──── snapshot_ref ─> └────────┘        └───────────┘──silence──> ping
//	                                                            │
//	       bye: replaced, removed, shutdown, expired, lagging <─┘   or the agent went away, or a line met its deadline
//
// Nothing is queued for a slow agent: a stream keeps a cursor into the log of its class, and reads from there what it
// has not told yet, merged by object. So it tells the newest state however long a line takes; when the log no longer
// reaches back to the cursor the stream ends with bye lagging, and the agent comes back for a snapshot.
package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// Maps holds the maps of all accounts.
type Maps interface {
	// Engine returns the maps of an account.
	Engine(ctx context.Context, accountID string) (*netmap.Engine, error)
	// Subscribe calls notify after each change of an account's maps, in the order of serials, until cancel returns.
	// notify does not block.
	Subscribe(notify func(accountID string, update *netmap.Update)) (cancel func())
}

// Presence is told which peers hold a stream. The session id tells an old stream's end from a new one's begin.
type Presence interface {
	SetPresence(peerID, sessionID string, connected bool, remote netip.Addr)
}

// Signals hands over the messages for a peer, in order, until detach returns.
type Signals interface {
	Attach(accountID, peerID string, deliver func(from string, box []byte) bool) (detach func(), err error)
}

// A LineWriter sends one line, which ends with a newline, and returns when it has left. A line that takes too long is an
// error.
type LineWriter interface {
	WriteLine(line []byte) error
}

// A Config says what streams are made of.
type Config struct {
	// Maps, Presence, Signals and Log are required.
	Maps     Maps
	Presence Presence
	Signals  Signals
	Log      *slog.Logger
	// Relays returns the relays with fresh credentials for a peer of an account. Nil means that there are none.
	Relays func(accountID, peerID string) []api.RelayServer
	// Version is the version of the server as hello tells it; it may be empty.
	Version string
}

// Sessions holds the streams of this instance. It is safe for concurrent use.
type Sessions struct {
	cfg      Config
	counters counters
	cancel   func() // of the subscription
	served   sync.WaitGroup

	mu      sync.Mutex         // guards all below
	streams map[string]*stream // by peer id
	paces   map[string]*pace   // by account id
	closed  bool
}

// New returns the sessions of an instance. Close ends them.
func New(cfg Config) (*Sessions, error) {
	if cfg.Maps == nil || cfg.Presence == nil || cfg.Signals == nil || cfg.Log == nil {
		return nil, errors.New("sessions need maps, presence, signals and a log")
	}
	if cfg.Relays == nil {
		cfg.Relays = func(string, string) []api.RelayServer { return nil }
	}
	s := &Sessions{cfg: cfg, streams: map[string]*stream{}, paces: map[string]*pace{}}
	s.cancel = cfg.Maps.Subscribe(s.notify)
	return s, nil
}

// Serve sends the events of one stream until ctx ends or the stream does. Before the first line it returns a problem:
// not-found when the peer is gone, unavailable while the server stops. After it the error says why a line did not leave;
// a stream that ended as it should returns nil.
func (s *Sessions) Serve(ctx context.Context, p auth.Principal, params api.StreamAgentParams, remote netip.Addr, w LineWriter) error {
	engine, err := s.cfg.Maps.Engine(ctx, p.AccountID)
	if err != nil {
		return err
	}
	if _, err := engine.Position(p.PeerID); err != nil {
		return problem.NotFound("peer")
	}
	st := &stream{
		sessions: s, engine: engine, account: p.AccountID, peer: p.PeerID, id: uuid.NewString(), lines: w,
		wake: make(chan struct{}, 1), signals: make(chan api.SignalEvent, signalQueue), bye: make(chan api.ByeEventReason, 1),
	}
	if err := s.enter(st); err != nil {
		return err
	}
	s.cfg.Presence.SetPresence(p.PeerID, st.id, true, remote)
	defer func() {
		s.leave(st)
		s.cfg.Presence.SetPresence(p.PeerID, st.id, false, remote)
	}()
	return st.run(ctx, params)
}

// enter makes st the stream of its peer; a stream that the peer had before ends.
func (s *Sessions) enter(st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return problem.Unavailable(time.Second, errors.New("the server stops"))
	}
	if old := s.streams[st.peer]; old != nil {
		old.detach() // before the new one attaches, so that no message arrives twice
		old.end(api.ByeEventReasonReplaced)
		s.counters.replaced.Add(1)
	}
	detach, err := s.cfg.Signals.Attach(st.account, st.peer, st.deliver)
	if err != nil {
		return problem.Unavailable(time.Second, fmt.Errorf("attach the stream of a peer to signaling: %w", err))
	}
	st.detach = detach
	s.streams[st.peer] = st
	s.served.Add(1)
	s.counters.opened.Add(1)
	return nil
}

func (s *Sessions) leave(st *stream) {
	st.detach()
	s.mu.Lock()
	if s.streams[st.peer] == st {
		delete(s.streams, st.peer)
	}
	s.mu.Unlock()
	s.served.Done()
}

// notify is told of every change of the maps.
func (s *Sessions) notify(accountID string, update *netmap.Update) {
	if update.Empty() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	p := s.paces[accountID]
	if p == nil {
		p = &pace{waiting: map[string]struct{}{}}
		s.paces[accountID] = p
	}
	if !update.Revokes && p.holds(update) {
		return
	}
	s.wake(update.Peers())
	if !p.running {
		s.startWindow(accountID, p)
	}
}

// wake tells the streams of peers to read on. The caller holds mu.
func (s *Sessions) wake(peers func(yield func(string) bool)) {
	for peer := range peers {
		if st := s.streams[peer]; st != nil {
			st.poke()
		}
	}
}

// Blob returns a compressed part of the peer's snapshot: of the one that its stream was told of, else of the present
// one. A problem of kind not-found for any other.
func (s *Sessions) Blob(ctx context.Context, p auth.Principal, sha256 string) ([]byte, error) {
	s.mu.Lock()
	st := s.streams[p.PeerID]
	s.mu.Unlock()
	if st != nil {
		if blob := st.offered(sha256); blob != nil {
			return blob.Compressed, nil
		}
	}
	engine, err := s.cfg.Maps.Engine(ctx, p.AccountID)
	if err != nil {
		return nil, err
	}
	blob, err := engine.Blob(ctx, p.PeerID, sha256)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil || blob == nil:
		return nil, problem.NotFound("blob")
	}
	return blob.Compressed, nil
}

// Close ends every stream with bye shutdown, waits until they have ended, and refuses new ones. The agents are told to
// come back spread over a time that grows with their number, 100 a second and at most a minute.
func (s *Sessions) Close() error {
	s.cancel()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	spread := min(max(len(s.streams)/100, 1), 60)
	for _, st := range s.streams {
		st.retryAfter.Store(int64(1 + rand.IntN(spread))) //nolint:gosec // spreads load; nothing depends on it being unknown
		st.end(api.ByeEventReasonShutdown)
	}
	for _, p := range s.paces {
		p.stop()
	}
	s.mu.Unlock()
	s.served.Wait()
	return nil
}

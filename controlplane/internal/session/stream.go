package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/generated/api"
)

// protocolVersion is the integer that agents and servers compare first.
const protocolVersion = 1

// A silence of a stream lasts between these: short enough for NATs and proxies that forget idle connections, with jitter
// so that streams opened together do not speak together.
const (
	shortestSilence = 30 * time.Second
	longestSilence  = 45 * time.Second
)

// signalQueue is how many signals wait while a line is on its way; senders are told when there is no room.
const signalQueue = 64

// offerLife is how long the parts of a snapshot stay readable after the stream named them, while the map moves on.
const offerLife = 5 * time.Minute

// laggingRetry is after how many seconds an agent that read too slowly may come back.
const laggingRetry = 1

// A stream serves one agent. The goroutine in run owns told, cursor and lines.
type stream struct {
	sessions   *Sessions
	engine     *netmap.Engine
	account    string
	peer       string
	id         string
	lines      LineWriter
	retryAfter atomic.Int64 // of bye shutdown

	// told is the serial that the agent was told last; cursor is where its map is in the logs, at or after told.
	told, cursor int64

	wake    chan struct{}
	signals chan api.SignalEvent
	bye     chan api.ByeEventReason
	detach  func()

	mu    sync.Mutex // guards all below
	offer *netmap.Snapshot
	until time.Time
}

// errBye ends run after the last line.
var errBye = errors.New("the stream ended with bye")

// poke makes the stream read on; pokes that come together are one.
func (st *stream) poke() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// end makes the stream say bye; the first reason counts.
func (st *stream) end(reason api.ByeEventReason) {
	select {
	case st.bye <- reason:
	default:
	}
}

// deliver takes a signal unless too many wait.
func (st *stream) deliver(from string, box []byte) bool {
	select {
	case st.signals <- api.SignalEvent{Type: api.SignalEventTypeSignal, From: from, Box: box}:
		return true
	default:
		return false
	}
}

// run sends the stream from hello to bye.
func (st *stream) run(ctx context.Context, params api.StreamAgentParams) error {
	relays := st.relays()
	err := st.begin(ctx, params, relays)
	if err == nil {
		err = st.live(ctx, params, refreshTimer(relays))
	}
	if errors.Is(err, errBye) {
		return nil
	}
	return err
}

func (st *stream) begin(ctx context.Context, params api.StreamAgentParams, relays []api.RelayServer) error {
	hello := api.HelloEvent{
		Type: api.HelloEventTypeHello, Api: protocolVersion, Features: netmap.AllFeatures.Names(), Epoch: st.engine.Epoch(),
		HeartbeatSeconds: int(longestSilence / time.Second), Relays: relays,
	}
	if st.sessions.cfg.Version != "" {
		hello.Server = &st.sessions.cfg.Version
	}
	if err := st.send(hello); err != nil {
		return err
	}
	if err := st.sendMap(ctx, positionOf(params), featuresOf(params)); err != nil {
		return err
	}
	return st.send(api.CaughtUpEvent{Type: api.CaughtUpEventTypeCaughtUp, Serial: st.cursor})
}

func positionOf(params api.StreamAgentParams) (has api.MapPosition) {
	if params.Epoch == nil || params.Serial == nil || params.Digest == nil {
		return api.MapPosition{}
	}
	return api.MapPosition{Epoch: *params.Epoch, Serial: *params.Serial, Digest: *params.Digest}
}

// featuresOf reads what the agent offers; one that tells nothing is of the first version.
func featuresOf(params api.StreamAgentParams) netmap.Features {
	if params.Features == nil {
		return 0
	}
	return netmap.ParseFeatures(*params.Features)
}

// sendMap goes on from the map that the agent has, or sends a whole one.
func (st *stream) sendMap(ctx context.Context, has api.MapPosition, offers netmap.Features) error {
	if err := st.engine.Offer(st.peer, offers); err != nil {
		return st.sayBye(api.ByeEventReasonRemoved, 0)
	}
	from, resumes, err := st.engine.Resume(st.peer, has)
	if err != nil {
		return st.sayBye(api.ByeEventReasonRemoved, 0)
	}
	if resumes {
		st.sessions.counters.resumed.Add(1)
		st.told, st.cursor = has.Serial, from
		return st.sendDelta()
	}
	snapshot, err := st.engine.Snapshot(ctx, st.peer)
	switch {
	case errors.Is(err, netmap.ErrUnknownPeer):
		return st.sayBye(api.ByeEventReasonRemoved, 0)
	case err != nil:
		return err // the agent went away while it waited
	}
	st.sessions.counters.snapshots.Add(1)
	st.mu.Lock()
	st.offer, st.until = &snapshot, time.Now().Add(offerLife)
	st.mu.Unlock()
	st.told, st.cursor = snapshot.Event.Serial, snapshot.Event.Serial
	return st.send(snapshot.Event)
}

// offered returns a part of the snapshot that the agent was told of.
func (st *stream) offered(sha256 string) *netmap.Blob {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.offer == nil || time.Now().After(st.until) {
		st.offer = nil
		return nil
	}
	for _, blob := range st.offer.Blobs {
		if blob.Sha256 == sha256 {
			return blob
		}
	}
	return nil
}

// live sends what happens until the stream ends.
func (st *stream) live(ctx context.Context, params api.StreamAgentParams, refresh *time.Timer) error {
	defer refresh.Stop()
	heartbeat := time.NewTimer(silence())
	defer heartbeat.Stop()
	var expired <-chan time.Time
	if params.Wait != nil && *params.Wait > 0 {
		wait := time.NewTimer(time.Duration(*params.Wait) * time.Second)
		defer wait.Stop()
		expired = wait.C
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case reason := <-st.bye:
			return st.sayBye(reason, int(st.retryAfter.Load()))
		case <-expired:
			return st.sayBye(api.ByeEventReasonExpired, 0)
		case <-st.wake:
			err = st.sendDelta()
		case signal := <-st.signals:
			st.sessions.counters.signals.Add(1)
			err = st.send(signal)
		case <-refresh.C:
			relays := st.relays()
			refresh.Reset(halfLife(relays))
			err = st.send(api.RelaysEvent{Type: api.RelaysEventTypeRelays, Relays: relays})
		case <-heartbeat.C:
			err = st.send(api.PingEvent{Type: api.PingEventTypePing, At: time.Now().UTC()})
		}
		if err != nil {
			return err
		}
		heartbeat.Reset(silence())
	}
}

func silence() time.Duration {
	return shortestSilence + rand.N(longestSilence-shortestSilence) //nolint:gosec // spreads load; nothing depends on it being unknown
}

// sendDelta tells everything since the cursor.
func (st *stream) sendDelta() error {
	delta, err := st.engine.Deltas(st.peer, st.cursor)
	switch {
	case errors.Is(err, netmap.ErrUnknownPeer):
		return st.sayBye(api.ByeEventReasonRemoved, 0)
	case err != nil:
		st.sessions.counters.lagged.Add(1)
		return st.sayBye(api.ByeEventReasonLagging, laggingRetry)
	}
	st.cursor = delta.Serial
	if delta.Empty() {
		return nil
	}
	line := append(delta.Line(st.told), '\n')
	st.told = delta.Serial
	st.sessions.counters.deltas.Add(1)
	return st.write(line)
}

func (st *stream) sayBye(reason api.ByeEventReason, retryAfter int) error {
	if err := st.send(api.ByeEvent{Type: api.ByeEventTypeBye, Reason: reason, RetryAfter: retryAfter}); err != nil {
		return err
	}
	return errBye
}

func (st *stream) send(event any) error {
	line, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("encode a line of a stream: %w", err)
	}
	return st.write(append(line, '\n'))
}

func (st *stream) write(line []byte) error {
	if err := st.lines.WriteLine(line); err != nil {
		st.sessions.cfg.Log.Debug("stream ended in the middle", "peer_id", st.peer, "session_id", st.id, "error", err)
		return err
	}
	return nil
}

// relays returns the relays with fresh credentials, never nil.
func (st *stream) relays() []api.RelayServer {
	if relays := st.sessions.cfg.Relays(st.account, st.peer); relays != nil {
		return relays
	}
	return []api.RelayServer{}
}

// never is longer than any stream.
const never = 100 * 365 * 24 * time.Hour

func refreshTimer(relays []api.RelayServer) *time.Timer { return time.NewTimer(halfLife(relays)) }

// halfLife returns when to send fresh credentials: when half of the life of the first to end is over.
func halfLife(relays []api.RelayServer) time.Duration {
	half := time.Duration(never)
	for _, relay := range relays {
		if !relay.Expires.IsZero() {
			half = min(half, time.Until(relay.Expires)/2)
		}
	}
	return max(half, time.Second)
}

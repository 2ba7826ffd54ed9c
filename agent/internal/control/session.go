package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// Choices of ours.
const (
	// firstWait and longestWait bound the span out of which the time between two
	// attempts is drawn, so that agents that lost one server do not come back at
	// one moment. The span is the awayShare-th part of the time away: who was cut
	// off by a restart is back soon after it, who is cut off for long asks seldom.
	firstWait   = time.Second
	longestWait = time.Minute
	awayShare   = 4

	// waitPerPeer widens the first span, so that a large network brings about a
	// hundred attempts a second to a server that starts.
	waitPerPeer = 10 * time.Millisecond

	// quickAttempts come within quickWait: most interruptions are over at once.
	quickAttempts = 2
	quickWait     = 200 * time.Millisecond

	// settled is how long a stream must have lived for the waits to begin anew.
	settled = 10 * time.Second

	// defaultHeartbeat is taken until hello tells another.
	defaultHeartbeat = 45 * time.Second

	// pollSeconds is the length of one answer where long ones do not arrive.
	pollSeconds = 25

	// silentStreams is how many streams without a line make the agent poll.
	silentStreams = 2
)

// ErrRemoved means that the control plane has deleted this peer.
var ErrRemoved = errors.New("this machine was removed from the network; enrol it again with `wattle up` and a setup key")

// ErrOlder means that the control plane offers a history older than the one
// that this machine has seen.
var ErrOlder = errors.New("the control plane offers an older network map than this machine has; was it restored without a new epoch?")

var (
	errSilent   = errors.New("the connection to the control plane carries nothing any more")
	errNoLine   = errors.New("the stream ended without a line")
	errMismatch = errors.New("the map differs from the control plane's; a snapshot was asked for")
)

// SessionConfig is what a Session needs. The functions that begin with On are
// called one at a time from the goroutine of Run and should return soon.
type SessionConfig struct {
	Logger *slog.Logger // required
	Client *Client      // required

	// Facts looks at the machine: what it is now, and which of the given programs
	// run. The error tells what could not be seen. It is called from a goroutine
	// of its own and required; see Machine.
	Facts func(programs []string) (api.MachineFacts, error)

	// Map is the last map; nil when there is none.
	Map *mapstate.Map

	// Epoch is the history that enrolment told; an older one is refused.
	Epoch string

	// OnMap is given each new state of the map, which is then its to keep.
	OnMap func(*mapstate.Map)

	// OnRelays is given the relays with fresh credentials.
	OnRelays func([]api.RelayServer)

	// OnSignal is given a sealed message of another peer.
	OnSignal func(from string, box []byte)

	// OnState is told when the state of the session changes.
	OnState func(State)
}

// State is how the session stands.
type State struct {
	Connected bool // a stream is open and has said hello
	CaughtUp  bool // the map is complete as of the server's serial
	Since     time.Time

	// Err is why the session is not connected, or what went wrong since; nil
	// when all is well.
	Err error

	// Server is the version of the control plane; empty when it did not tell.
	Server string

	// ClockOffset must be added to this machine's clock to get the control
	// plane's.
	ClockOffset time.Duration
}

// A Session keeps the map of this machine up to date.
//
//	waiting --(stream opens)--> connected --(caught_up)--> caught up
//	   ^                            |                          |
//	   +------- jitter -------------+------ end, silence ------+
type Session struct {
	config SessionConfig
	log    *slog.Logger
	blobs  *blobCache
	wake   chan struct{}
	report chan struct{}
	probe  chan struct{}
	asks   chan struct{} // the map asks about other programs

	// Owned by the goroutine of Run.
	current   *mapstate.Map
	state     State
	heartbeat time.Duration
	epoch     string // of the stream
	resync    bool   // ask for a snapshot
	silent    int    // streams in a row without a line
	lines     int    // of this stream
	bye       *api.ByeEvent

	unseen string // by the last look at the machine; owned by the reporter

	mu        sync.Mutex // guards all below, which the reporter uses
	applied   *api.MapPosition
	programs  []string // that the map asks about
	connected bool
	mismatch  bool
	cut       context.CancelCauseFunc // ends the stream; nil without one
}

// NewSession checks the config; nothing is sent before Run.
func NewSession(c SessionConfig) (*Session, error) {
	if c.Logger == nil || c.Client == nil || c.Facts == nil || c.OnMap == nil || c.OnRelays == nil || c.OnSignal == nil || c.OnState == nil {
		return nil, errors.New("control: every part of a session's config but map and epoch is required")
	}
	s := &Session{
		config: c, log: c.Logger, current: c.Map, heartbeat: defaultHeartbeat,
		blobs: newBlobCache(), wake: make(chan struct{}, 1), report: make(chan struct{}, 1), probe: make(chan struct{}, 1),
		asks: make(chan struct{}, 1),
	}
	if c.Map != nil {
		position := c.Map.Position()
		s.applied, s.programs = &position, slices.Clone(c.Map.Self.Processes)
	}
	return s, nil
}

// Wake says that the network has changed: a wait between two attempts ends, and
// a stream whose connection does not carry a request any more is given up, at
// once when the machine has lost the address it comes from.
func (s *Session) Wake() {
	s.config.Client.transport.connections.closeStranded(ownAddresses())
	ring(s.wake)
	ring(s.probe)
}

// Report tells the control plane of this machine as it is now.
func (s *Session) Report() { ring(s.report) }

// Renew gives the stream and its connection up, as after a sleep of the machine:
// the control plane has long ended them, and TCP would find out in minutes.
func (s *Session) Renew() {
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	if cut != nil {
		cut(errSilent)
	}
	ring(s.wake)
}

// Run keeps a stream open until ctx ends. It returns ErrRemoved when the peer
// was deleted, else the error of ctx.
func (s *Session) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	reports := reporter{asked: s.report, probed: s.probe, programs: s.asks, look: s.look, send: s.post}
	var parts sync.WaitGroup
	parts.Go(func() { reports.run(ctx) })
	defer parts.Wait()
	defer cancel()

	lost := time.Now()
	for attempt := 0; ; attempt++ {
		started := time.Now()
		err := s.follow(ctx)
		s.countSilence(err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.update(func(state *State) {
			state.Connected, state.CaughtUp, state.Err = false, false, err
		})
		if errors.Is(err, ErrRemoved) {
			return err
		}
		if time.Since(started) > settled {
			attempt, lost = 0, time.Now()
		}
		wait := s.wait(attempt, time.Since(lost), err)
		s.log.Info("stream ended", "error", err, "wait", wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wake:
			attempt = -1
		}
		timer.Stop()
	}
}

// wait returns how long to wait after an attempt, away after the last good
// stream ended. What the server says wins.
func (s *Session) wait(attempt int, away time.Duration, err error) time.Duration {
	var answered *sdk.Error
	switch {
	case s.bye != nil:
		after := time.Duration(s.bye.RetryAfter) * time.Second
		if s.bye.Reason == "expired" || after == 0 && s.bye.Reason == "lagging" {
			return 0
		}
		return after + jitter(firstWait)
	case errors.As(err, &answered) && answered.RetryAfter > 0:
		return answered.RetryAfter + jitter(firstWait)
	case sdk.IsClockSkew(err) && attempt == 0:
		return 0 // the answer told the time
	case errors.Is(err, errMismatch) && attempt == 0:
		return 0
	case Foreign(err) && attempt >= quickAttempts:
		return jitter(min(max(s.firstSpan(), away/awayShare), foreignWait))
	case attempt < quickAttempts:
		return jitter(quickWait)
	}
	return jitter(min(max(s.firstSpan(), away/awayShare), longestWait))
}

// firstSpan grows with the network as far as this machine sees it.
func (s *Session) firstSpan() time.Duration {
	if s.current == nil {
		return firstWait
	}
	return max(firstWait, time.Duration(s.current.Peers.Len())*waitPerPeer)
}

func jitter(span time.Duration) time.Duration {
	return rand.N(span) //nolint:gosec // spreading needs no secret randomness
}

// follow opens one stream and handles its lines until it ends, which it always
// does with an error.
func (s *Session) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.lines, s.bye, s.epoch = 0, nil, ""

	s.setCut(cancel)
	defer s.setCut(nil)
	alarm := time.AfterFunc(2*s.heartbeat, func() { cancel(errSilent) })
	defer alarm.Stop()
	for event, err := range s.config.Client.stream(ctx, s.options()) {
		alarm.Stop()
		if err == nil {
			s.lines++
			err = s.handle(ctx, event)
		}
		if err != nil {
			if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
				// The connection is as dead as the stream: do not use it again.
				s.config.Client.transport.renew()
				return cause
			}
			return err
		}
		if s.bye != nil {
			break
		}
		alarm.Reset(2 * s.heartbeat)
	}
	switch {
	case s.bye != nil && s.bye.Reason == "removed":
		return ErrRemoved
	case s.bye != nil:
		return fmt.Errorf("the control plane ended the stream: %s", s.bye.Reason)
	case s.lines == 0:
		return errNoLine
	}
	return errors.New("the control plane closed the stream")
}

func (s *Session) setCut(cancel context.CancelCauseFunc) {
	s.mu.Lock()
	s.cut = cancel
	s.mu.Unlock()
}

// options asks for what follows the map.
func (s *Session) options() sdk.StreamAgentOptions {
	o := sdk.StreamAgentOptions{Features: mapstate.Features()}
	if s.silent >= silentStreams {
		o.Wait = pollSeconds
	}
	if s.current != nil && !s.resync {
		position := s.current.Position()
		o.Epoch, o.Serial, o.Digest = position.Epoch, &position.Serial, position.Digest
	}
	return o
}

// countSilence learns that long answers do not arrive here. Two streams that
// carried a line teach the contrary. A control plane that cannot be reached, or
// refuses, teaches nothing.
func (s *Session) countSilence(err error) {
	_, refused := sdk.AsProblem(err)
	switch {
	case s.lines > 0 && s.silent < silentStreams:
		s.silent = 0
	case s.lines == 0 && !refused && !sdk.IsUnreachable(err):
		s.silent++
	}
}

// update changes the state and tells of it.
func (s *Session) update(change func(*State)) {
	former := s.state
	change(&s.state)
	s.state.ClockOffset = s.config.Client.ClockOffset()
	if s.state.Connected != former.Connected {
		s.state.Since = time.Now()
	}
	s.mu.Lock()
	s.connected = s.state.Connected
	s.mu.Unlock()
	s.config.OnState(s.state)
}

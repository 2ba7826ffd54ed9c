package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// protocolVersion is the agent protocol that this agent speaks.
const protocolVersion = 1

// snapshotTimeout bounds the reading of all parts of a snapshot.
const snapshotTimeout = 2 * time.Minute

// handle deals with one line. An error ends the stream.
func (s *Session) handle(ctx context.Context, event api.AgentEvent) error {
	kind, err := event.Discriminator()
	if err != nil {
		return fmt.Errorf("read a line of the stream: %w", err)
	}
	if s.epoch == "" && kind != "hello" {
		return fmt.Errorf("the stream began with %q in place of hello; is this a control plane?", kind)
	}
	line, err := event.ValueByDiscriminator()
	if err != nil && known(kind) {
		return fmt.Errorf("read a line of the kind %s: %w", kind, err)
	}
	switch line := line.(type) {
	default:
		// Of a newer server: the contract lets an agent ignore it.
		s.log.Warn("line of an unknown kind", "kind", kind)
	case api.HelloEvent:
		return s.hello(line)
	case api.SnapshotRefEvent:
		return s.snapshot(ctx, line)
	case api.DeltaEvent:
		return s.delta(line)
	case api.CaughtUpEvent:
		return s.caughtUp(line)
	case api.RelaysEvent:
		s.config.OnRelays(line.Relays)
	case api.SignalEvent:
		s.config.OnSignal(line.From, line.Box)
	case api.CommandEvent:
		return s.command(line)
	case api.ByeEvent:
		s.bye = &line
	case api.PingEvent:
	}
	return nil
}

// known reports whether this agent knows a kind of line.
func known(kind string) bool {
	switch kind {
	case "hello", "snapshot_ref", "delta", "caught_up", "relays", "signal", "command", "ping", "bye":
		return true
	}
	return false
}

func (s *Session) hello(hello api.HelloEvent) error {
	if hello.Api != protocolVersion {
		return fmt.Errorf("the control plane speaks version %d of the agent protocol, this agent version %d; update the older of the two", hello.Api, protocolVersion)
	}
	if hello.Epoch == "" {
		return errors.New("the control plane told no epoch")
	}
	if compareEpochs(hello.Epoch, s.knownEpoch()) < 0 {
		return fmt.Errorf("%w (epoch %s, known %s)", ErrOlder, hello.Epoch, s.knownEpoch())
	}
	s.epoch = hello.Epoch
	if hello.HeartbeatSeconds > 0 {
		s.heartbeat = time.Duration(hello.HeartbeatSeconds) * time.Second
	}
	s.config.OnRelays(hello.Relays)
	s.update(func(state *State) {
		state.Connected, state.Err, state.Server = true, nil, ""
		if hello.Server != nil {
			state.Server = *hello.Server
		}
	})
	return nil
}

func (s *Session) knownEpoch() string {
	if s.current != nil && compareEpochs(s.current.Epoch, s.config.Epoch) >= 0 {
		return s.current.Epoch
	}
	return s.config.Epoch
}

// snapshot takes a whole map. The one in force stays until all parts are there
// and together give the digest.
func (s *Session) snapshot(ctx context.Context, ref api.SnapshotRefEvent) error {
	if compareEpochs(ref.Epoch, s.knownEpoch()) < 0 ||
		s.current != nil && ref.Epoch == s.current.Epoch && ref.Serial < s.current.Serial {
		return fmt.Errorf("%w (serial %d of epoch %s)", ErrOlder, ref.Serial, ref.Epoch)
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	parts, err := s.blobs.fetch(ctx, ref.Blobs, s.config.Client.blob)
	if err != nil {
		return fmt.Errorf("read the network map: %w", err)
	}
	loaded, err := mapstate.Load(ref, func(part api.BlobRef) ([]byte, error) { return parts[part.Sha256], nil })
	if err != nil {
		s.blobs.forget()
		return s.mapFault(err)
	}
	s.resync = false
	s.take(loaded)
	return nil
}

func (s *Session) delta(delta api.DeltaEvent) error {
	if s.current == nil {
		return errors.New("the control plane sent changes of a map that this machine does not have")
	}
	if err := s.current.Apply(delta); err != nil {
		return s.mapFault(err)
	}
	s.take(s.current)
	return nil
}

// mapFault keeps the present map, reports the difference and makes the next
// stream begin with a snapshot.
func (s *Session) mapFault(cause error) error {
	s.log.Error("network map not taken", "error", cause)
	s.resync = true
	s.mu.Lock()
	s.mismatch = s.mismatch || errors.Is(cause, mapstate.ErrDigest)
	s.mu.Unlock()
	ring(s.report)
	return errors.Join(errMismatch, cause)
}

// take makes m the map.
func (s *Session) take(m *mapstate.Map) {
	s.current = m
	position := m.Position()
	s.mu.Lock()
	s.applied = &position
	others := !slices.Equal(s.programs, m.Self.Processes)
	s.programs = slices.Clone(m.Self.Processes)
	s.mu.Unlock()
	if others {
		ring(s.asks)
	}
	s.config.OnMap(m.Clone())
}

func (s *Session) caughtUp(event api.CaughtUpEvent) error {
	if s.current == nil || s.resync {
		return errors.New("the control plane says that the map is complete, but sent none")
	}
	s.log.Debug("map complete", "serial", event.Serial)
	s.mu.Lock()
	s.mismatch = false
	s.mu.Unlock()
	if !s.state.CaughtUp {
		s.update(func(state *State) { state.CaughtUp = true })
		ring(s.report)
	}
	return nil
}

func (s *Session) command(command api.CommandEvent) error {
	if command.Kind != "resync" {
		s.log.Warn("command of an unknown kind", "kind", command.Kind)
		return nil
	}
	s.resync = true
	return errMismatch
}

// Package swarm simulates agents: they enrol, hold a stream and keep their map, but carry no packets.
//
// Tests and benchmarks of the control plane use it to have many machines in one process.
package swarm

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// tokenLife is short of the five minutes that servers accept.
const tokenLife = time.Minute

// reconnectAfter is the pause between two streams; many agents in one process need no storm.
const reconnectAfter = 100 * time.Millisecond

// A Config says where an agent enrols.
type Config struct {
	// SDK says where the control plane is. Token and TokenSource are the agent's own.
	SDK sdk.Config
	// SetupKey is the secret with which it enrols. Required.
	SetupKey string
	// Hostname is the name that it reports. Empty means "swarm".
	Hostname string
}

// An Agent is a simulated machine. It is safe for concurrent use.
type Agent struct {
	// Enrolled is what the control plane answered.
	Enrolled api.EnrollResult

	client *sdk.Client
	key    ed25519.PrivateKey

	mu      sync.Mutex // guards all below
	state   *mapstate.Map
	ready   int64         // the serial as of which the map is complete
	changed chan struct{} // closed at the next change
	streams int
	signals []api.SignalEvent
}

// Enroll makes keys and enrols a machine.
func Enroll(ctx context.Context, cfg Config) (*Agent, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a machine key: %w", err)
	}
	a := &Agent{key: key, changed: make(chan struct{})}
	cfg.SDK.Token, cfg.SDK.TokenSource = "", a.token
	if a.client, err = sdk.New(cfg.SDK); err != nil {
		return nil, err
	}
	request, err := a.request(cfg)
	if err != nil {
		return nil, err
	}
	result, err := a.client.EnrollAgent(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("enrol a simulated machine: %w", err)
	}
	a.Enrolled = *result
	return a, nil
}

func (a *Agent) request(cfg Config) (api.EnrollRequest, error) {
	wireGuardKey := make([]byte, 32)
	if _, err := rand.Read(wireGuardKey); err != nil {
		return api.EnrollRequest{}, fmt.Errorf("make a WireGuard key: %w", err)
	}
	hostname := cfg.Hostname
	if hostname == "" {
		hostname = "swarm"
	}
	r := api.EnrollRequest{
		SetupKey:     cfg.SetupKey,
		MachineKey:   base64.StdEncoding.EncodeToString(a.key.Public().(ed25519.PublicKey)),
		WireguardKey: base64.StdEncoding.EncodeToString(wireGuardKey),
		Facts:        api.MachineFacts{Hostname: hostname, Os: "linux", Arch: "amd64", AgentVersion: "swarm"},
	}
	sum := sha256.Sum256([]byte(cfg.SetupKey))
	var err error
	r.Proof, err = a.sign(jwt.Claims{}, map[string]any{
		"machine_key": r.MachineKey, "wireguard_key": r.WireguardKey, "setup_key_sha256": hex.EncodeToString(sum[:]),
	})
	return r, err
}

// token signs a token for one request.
func (a *Agent) token(context.Context) (string, error) {
	id := a.Enrolled.PeerId
	return a.sign(jwt.Claims{Issuer: id, Subject: id, Audience: jwt.Audience{a.Enrolled.Issuer}}, nil)
}

func (a *Agent) sign(claims jwt.Claims, more map[string]any) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: a.key}, nil)
	if err != nil {
		return "", fmt.Errorf("prepare to sign: %w", err)
	}
	now := time.Now()
	claims.ID, claims.IssuedAt, claims.Expiry = uuid.NewString(), jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(tokenLife))
	builder := jwt.Signed(signer).Claims(claims)
	if more != nil {
		builder = builder.Claims(more)
	}
	return builder.Serialize()
}

// Run holds a stream until ctx ends, and comes back with its map after each stream. An error says that the agent could
// not follow, which is a mistake of one side.
func (a *Agent) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := a.stream(ctx); errors.Is(err, errMap) && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(reconnectAfter):
		}
	}
	return nil
}

// errMap says that a snapshot or delta does not fit.
var errMap = errors.New("the map of a simulated machine broke")

func (a *Agent) stream(ctx context.Context) error {
	options := sdk.StreamAgentOptions{Features: mapstate.Features()}
	a.mu.Lock()
	a.streams++
	if a.state != nil {
		at := a.state.Position()
		options.Epoch, options.Serial, options.Digest = at.Epoch, &at.Serial, at.Digest
	}
	a.mu.Unlock()
	for event, err := range a.client.StreamAgent(ctx, options) {
		if err != nil {
			return err
		}
		if err := a.take(ctx, event); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) take(ctx context.Context, event api.AgentEvent) error {
	value, err := event.ValueByDiscriminator()
	if err != nil {
		return fmt.Errorf("%w: a line of the stream: %w", errMap, err)
	}
	switch e := value.(type) {
	case api.SnapshotRefEvent:
		state, err := mapstate.Load(e, func(part api.BlobRef) ([]byte, error) { return a.blob(ctx, part) })
		if err != nil {
			return err // a part may be gone already; the next stream names the present ones
		}
		a.change(func() { a.state = state })
	case api.DeltaEvent:
		return a.apply(e)
	case api.CaughtUpEvent:
		a.change(func() { a.ready = e.Serial })
	case api.SignalEvent:
		a.change(func() { a.signals = append(a.signals, e) })
	}
	return nil
}

func (a *Agent) apply(delta api.DeltaEvent) (err error) {
	a.change(func() {
		if a.state == nil {
			err = fmt.Errorf("%w: a delta came before a snapshot", errMap)
			return
		}
		if err = a.state.Apply(delta); err != nil {
			err = fmt.Errorf("%w: %w", errMap, err)
			return
		}
		if a.ready > 0 {
			a.ready = delta.Serial
		}
	})
	return err
}

func (a *Agent) blob(ctx context.Context, part api.BlobRef) (raw []byte, err error) {
	body, err := a.client.GetBlob(ctx, part.Sha256)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	return io.ReadAll(body)
}

// change runs f under the lock and wakes who waits.
func (a *Agent) change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
	close(a.changed)
	a.changed = make(chan struct{})
}

// Wait returns when the map is complete and satisfies the condition, or when ctx ends with its error. The condition
// must not keep the map.
func (a *Agent) Wait(ctx context.Context, condition func(*mapstate.Map) bool) error {
	for {
		a.mu.Lock()
		done, changed := a.ready > 0 && a.state != nil && condition(a.state), a.changed
		a.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Map returns a copy of the agent's map; nil before the first snapshot.
func (a *Agent) Map() *mapstate.Map {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == nil {
		return nil
	}
	return a.state.Clone()
}

// Streams returns how many streams the agent opened.
func (a *Agent) Streams() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.streams
}

// Signals returns the messages that came so far.
func (a *Agent) Signals() []api.SignalEvent {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]api.SignalEvent(nil), a.signals...)
}

// Signal sends a message to another peer.
func (a *Agent) Signal(ctx context.Context, to string, box []byte) error {
	return a.client.SignalAgent(ctx, api.SignalRequest{To: to, Box: box})
}

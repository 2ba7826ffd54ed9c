package start

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/bus"
	"github.com/wattlenet/wattle/controlplane/internal/geo"
	"github.com/wattlenet/wattle/controlplane/internal/rest"
	"github.com/wattlenet/wattle/controlplane/internal/seal"
	"github.com/wattlenet/wattle/controlplane/internal/session"
	"github.com/wattlenet/wattle/controlplane/internal/signaling"
	"github.com/wattlenet/wattle/controlplane/internal/state"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/exposition"
	"github.com/wattlenet/wattle/internal/program"
)

// PlaneConfig is what a control plane needs apart from listeners.
type PlaneConfig struct {
	// Database is the path of the SQLite database; required.
	Database string

	// MasterKey is the path of the key that seals the secrets in the database;
	// required. It is made together with the database.
	MasterKey string

	// Issuer is the audience of agent tokens; required.
	Issuer string

	// PublicURL and CAPin are what new machines are told; see state.Config.
	PublicURL, CAPin string

	// Relays returns the relays with credentials for a peer. Nil means that
	// there are none.
	Relays func(accountID, peerID string) []api.RelayServer

	// GeoDatabase is the path of a geo database; see geo.Open. Empty for none.
	GeoDatabase string

	// Rate is how many requests a second one caller may make on average; see
	// rest.Config.
	Rate float64

	// SetupToken is the SHA-256 of the token that making the first owner asks
	// for; see auth.Config.
	SetupToken *[sha256.Size]byte

	// FailuresPerMinute is how often an address may show bad credentials; see
	// auth.Config.
	FailuresPerMinute int

	// Logger is required.
	Logger *slog.Logger
}

// A Plane is a control plane without listeners: what a request meets.
type Plane struct {
	State   *state.State
	Handler http.Handler

	store    *store.Store
	bus      *bus.Local
	signals  *signaling.Router
	sessions *session.Sessions
}

// NewPlane opens the store and builds all that stands on it. The caller runs
// or closes it.
func NewPlane(ctx context.Context, config PlaneConfig) (*Plane, error) {
	p := &Plane{}
	if err := p.build(ctx, config); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Plane) build(ctx context.Context, config PlaneConfig) (err error) {
	if p.store, err = store.Open(ctx, store.Config{Path: config.Database, Logger: config.Logger}); err != nil {
		return err
	}
	keys, err := seal.Open(ctx, config.MasterKey, p.store)
	if err != nil {
		return err
	}
	var places *geo.Database
	if config.GeoDatabase != "" {
		if places, err = geo.Open(config.GeoDatabase); err != nil {
			return err
		}
	}
	p.State, err = state.New(ctx, state.Config{
		Store: p.store, Keys: keys, Issuer: config.Issuer, PublicURL: config.PublicURL, CAPin: config.CAPin, Places: places, Logger: config.Logger,
	})
	if err != nil {
		return err
	}
	if err := p.connect(config); err != nil {
		return err
	}
	authenticator, err := auth.New(auth.Config{
		Directory: p.State, Issuer: config.Issuer, SetupToken: config.SetupToken, FailuresPerMinute: config.FailuresPerMinute,
	})
	if err != nil {
		return err
	}
	p.Handler, err = rest.New(rest.Config{
		State: p.State, Authenticator: authenticator, Streams: p.sessions, Signals: p.signals, Rate: config.Rate, Logger: config.Logger,
	})
	return err
}

// connect builds what agents talk through.
func (p *Plane) connect(config PlaneConfig) (err error) {
	p.bus = bus.NewLocal()
	maps := newMaps(p.State)
	if p.signals, err = signaling.New(signaling.Config{Bus: p.bus, Maps: maps}); err != nil {
		return err
	}
	p.sessions, err = session.New(session.Config{
		Maps: maps, Presence: p.State, Signals: p.signals, Relays: config.Relays, Version: program.Version(), Log: config.Logger,
	})
	return err
}

// Run does the timed work until ctx is done.
func (p *Plane) Run(ctx context.Context) error { return p.State.Run(ctx) }

// Expose adds what the control plane counts to text.
func (p *Plane) Expose(text *exposition.Text) { exposeStreams(text, p.sessions.Stats()) }

// Leave ends the streams of all agents with a bye and lets no new one in.
func (p *Plane) Leave() { _ = p.sessions.Close() } // waits, and has nothing to report

// Close ends what runs and releases the store. Closing twice is closing once.
func (p *Plane) Close() error {
	var faults []error
	if p.sessions != nil {
		faults = append(faults, p.sessions.Close())
	}
	if p.bus != nil {
		faults = append(faults, p.bus.Close())
	}
	if p.store != nil {
		faults = append(faults, p.store.Close())
	}
	return errors.Join(faults...)
}

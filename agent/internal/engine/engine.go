// Package engine turns the newest network map into the state of this machine.
//
// It joins the parts of the agent, which do not know each other, and owns every
// goroutine. An Engine lives as long as the daemon; a link lives from up to down.
//
//	not enrolled --up, setup key--> connecting --map--> ready <--> offline
//	     ^                              ^                 |
//	     +-- logout, removed            +-- up --- down <-+
package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/wattlenet/wattle/agent/internal/bundle"
	"github.com/wattlenet/wattle/agent/internal/forward"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/settings"
)

// retryOpen is how long after a failure at its start the daemon tries again to
// open the tunnel.
const retryOpen = 10 * time.Second

// reopenAfter is how long after its interface was removed the tunnel is opened again.
const reopenAfter = time.Second

// Config is what an Engine needs.
type Config struct {
	Logger  *slog.Logger    // required
	Store   *identity.Store // required
	Version string          // required: of the agent

	// Settings are what this machine's users have set; nil for the defaults alone.
	Settings *settings.Book

	// Level is the least level that Logger logs, for the setting of that name;
	// nil leaves it alone.
	Level *slog.LevelVar

	// Tail holds the newest lines that Logger wrote, for a bundle; nil for none.
	Tail *bundle.Tail

	// Forward is what is carried between programs of this host and the overlay; its addresses come with the map.
	Forward forward.Config

	// Open opens the parts on this host; nil is OpenHost.
	Open func(MachineConfig) (*Machine, error)

	// Restore puts back what an agent that was killed has left on the host; nil:
	// nothing could be left.
	Restore func(ctx context.Context) error

	// Now is the clock of this machine; nil is time.Now.
	Now func() time.Time
}

// An Engine is the agent behind the local API.
type Engine struct {
	config  Config
	log     *slog.Logger
	started chan struct{} // closed once Run has begun
	links   sync.WaitGroup
	outside outside

	commands sync.Mutex // held by a command that changes the connection
	amending sync.Mutex // held while the identity changes on disk

	mu       sync.Mutex // guards all below
	ctx      contextOf
	identity *identity.Identity // nil before the first up
	link     *link              // nil while down
	stop     func(why ending)   // ends the link and waits
	notice   string             // why the machine is not connected, for status
	changed  chan struct{}      // closed at the next change
}

// contextOf hands the context of Run to commands: a link outlives the request
// that asked for it.
type contextOf func() context.Context

// New loads the identity. The error names a damaged state folder.
func New(c Config) (*Engine, error) {
	if c.Logger == nil || c.Store == nil || c.Version == "" {
		return nil, errors.New("engine: logger, store and version are required")
	}
	if c.Open == nil {
		c.Open = OpenHost
	}
	if c.Settings == nil {
		c.Settings = &settings.Book{}
	}
	if c.Restore == nil {
		c.Restore = func(context.Context) error { return nil }
	}
	found, err := c.Store.Load()
	if err != nil {
		return nil, err
	}
	return &Engine{config: c, log: c.Logger, identity: found, started: make(chan struct{}), changed: make(chan struct{})}, nil
}

var _ local.Daemon = (*Engine)(nil)

// Run connects the machine if it was connected before, then works until ctx
// ends and leaves the host as it was, but for an exit node that fails closed:
// that stays closed until the next Run, Down or a cleanup. It may be called once.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	e.ctx = func() context.Context { return ctx }
	connect := e.identity != nil && e.identity.Enrolled() && e.identity.Up
	e.mu.Unlock()
	close(e.started)
	if connect {
		e.persist(ctx)
	}
	<-ctx.Done()
	e.commands.Lock()
	e.disconnect(endsToReopen)
	e.commands.Unlock()
	e.links.Wait()
	return nil
}

// time is the time by the clock of this machine.
func (e *Engine) time() time.Time {
	if e.config.Now == nil {
		return time.Now()
	}
	return e.config.Now()
}

// amend changes the identity, on disk first. There is one.
func (e *Engine) amend(change func(*identity.Identity)) error {
	e.amending.Lock()
	defer e.amending.Unlock()
	e.mu.Lock()
	next := *e.identity
	e.mu.Unlock()
	change(&next)
	if err := e.config.Store.Save(&next); err != nil {
		return err
	}
	e.setIdentity(&next)
	return nil
}

// Watch returns a channel that is closed at the next change.
func (e *Engine) Watch() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

func (e *Engine) broadcast() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *Engine) setNotice(text string) {
	e.mu.Lock()
	e.notice = text
	e.mu.Unlock()
	e.broadcast()
}

// base returns the context of Run, which has begun.
func (e *Engine) base() contextOf {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ctx
}

// now returns identity and link of this moment.
func (e *Engine) now() (*identity.Identity, *link, string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.identity, e.link, e.notice
}

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
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/wattlenet/wattle/agent/internal/bundle"
	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/agent/internal/dns"
	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/forward"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/route"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// withdrawTimeout bounds the deletion of the peer at logout.
const withdrawTimeout = 10 * time.Second

// retryOpen is how long after a failure at its start the daemon tries again to
// open the tunnel.
const retryOpen = 10 * time.Second

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
	for connect && !e.reconnect() {
		// The daemon stays, so that status tells what is wrong, and tries again:
		// while a machine starts, what is missing may still come.
		timer := time.NewTimer(retryOpen)
		select {
		case <-ctx.Done():
			connect = false
		case <-timer.C:
		}
		timer.Stop()
	}
	<-ctx.Done()
	e.commands.Lock()
	e.disconnect(endsToReopen)
	e.commands.Unlock()
	e.links.Wait()
	return nil
}

// reconnect connects a machine that shall be connected, and reports whether
// there is nothing left to try.
func (e *Engine) reconnect() bool {
	e.commands.Lock()
	defer e.commands.Unlock()
	mine, running, _ := e.now()
	if running != nil || mine == nil || !mine.Enrolled() || !mine.Up {
		return true
	}
	err := openError(e.connect(nil))
	if err != nil {
		e.log.Error("not connected", "error", err)
		e.setNotice(err.Error())
	}
	return err == nil
}

// connect opens the machine and starts a link. A nil client makes one. The
// caller holds commands.
func (e *Engine) connect(client *control.Client) error {
	e.mu.Lock()
	mine := *e.identity
	e.mu.Unlock()
	if client == nil {
		var err error
		if client, err = control.NewClient(e.clientConfig(&mine)); err != nil {
			return err
		}
	}
	memory := newPathMemory(e.log, e.config.Store, mine.PeerID, e.time())
	machine, network, err := e.open(&mine, client, memory)
	if err != nil {
		return err
	}
	return e.start(&mine, client, machine, network, memory)
}

// clientConfig is how this agent talks to the control plane as i.
func (e *Engine) clientConfig(i *identity.Identity) control.ClientConfig {
	return control.ClientConfig{Logger: e.log, UserAgent: "wattle/" + e.config.Version, Identity: i, Now: e.config.Now, Resolver: e.outside.resolver()}
}

// open opens the parts on this host. Nothing is sent and nobody is let in.
func (e *Engine) open(mine *identity.Identity, signal signaler, memory *pathMemory) (*Machine, *overlay, error) {
	network, v := &overlay{}, e.values()
	wanted := MachineConfig{
		Logger: e.log, Key: mine.WireGuardKey, Mode: tunnel.Mode(v.Tunnel), Interface: v.Interface, ListenPort: uint16(v.ListenPort), MTU: v.MTU, Single: v.GSO == "off",
		Firewall: Enforcement(v.Firewall), Signal: briefly(signal), Overlay: network.contains, Resolver: e.outside.resolver(),
		KeepHostClosed:  !v.HostFirewall,
		RelayTransports: v.RelayTransports, Force: force(v.PathMode), PortMapping: v.PortMapping,
		Known: memory.known(), Learned: memory.learned,
		DNS: system.Kind(v.DNS), DNSJournal: filepath.Join(e.config.Store.Dir(), system.JournalFile),
		Journal: filepath.Join(e.config.Store.Dir(), route.JournalFile), Answered: network.answer,
	}
	if wanted.ListenPort != 0 || mine.ListenPort == 0 {
		machine, err := e.config.Open(wanted)
		return machine, network, err
	}
	wanted.ListenPort = mine.ListenPort
	machine, err := e.config.Open(wanted)
	if errors.Is(err, syscall.EADDRINUSE) {
		wanted.ListenPort = 0
		machine, err = e.config.Open(wanted)
	}
	return machine, network, err
}

// signaler carries sealed messages.
type signaler interface {
	Signal(ctx context.Context, peerID string, box []byte) error
}

// briefly passes signals on, with errors that fit a line of the status.
func briefly(signal signaler) func(context.Context, string, []byte) error {
	return func(ctx context.Context, peerID string, box []byte) error {
		err := signal.Signal(ctx, peerID, box)
		switch {
		case sdk.IsPeerOffline(err):
			return errPeerOffline
		case sdk.IsUnreachable(err):
			return fmt.Errorf("the control plane cannot be reached: %w", root(err))
		}
		return err
	}
}

var errPeerOffline = errors.New("the peer is not connected to the control plane")

// start runs a link on an open machine. The caller holds commands.
func (e *Engine) start(mine *identity.Identity, client *control.Client, machine *Machine, network *overlay, memory *pathMemory) error {
	l, err := newLink(linkConfig{
		self: mine.PeerID, memory: memory, wall: e.time, carry: e.config.Forward, under: e.under,
		logger: e.log, store: e.config.Store, machine: machine, client: client, overlay: network,
		facts: func(programs []string) (api.MachineFacts, error) { return e.sight(machine, network).Facts(programs) }, epoch: mine.Epoch, last: e.lastMap(mine), changed: e.broadcast,
		rotation: e.newRotation(mine, client, machine),
	})
	if err != nil {
		return errors.Join(err, machine.close(endsToReopen))
	}
	e.keepPort(mine, machine.Port())
	e.outside.machine.Store(machine)
	ctx, cancel := context.WithCancelCause(e.base()())
	ended := make(chan struct{})
	e.mu.Lock()
	e.link, e.notice = l, ""
	e.stop = func(why ending) { cancel(why); <-ended }
	e.mu.Unlock()
	e.links.Go(func() {
		err := l.run(ctx)
		e.outside.machine.CompareAndSwap(machine, nil)
		close(ended)
		if errors.Is(err, control.ErrRemoved) {
			e.forgetRemoved(l)
		}
	})
	e.broadcast()
	return nil
}

// time is the time by the clock of this machine.
func (e *Engine) time() time.Time {
	if e.config.Now == nil {
		return time.Now()
	}
	return e.config.Now()
}

// sight is how the agent looks at its machine.
func (e *Engine) sight(machine *Machine, network *overlay) control.Machine {
	return control.Machine{
		AgentVersion: e.config.Version, Hostname: e.values().Hostname, Interface: machine.Interface, Overlay: network.contains,
	}
}

// keepPort remembers the tunnel's port for the next start.
func (e *Engine) keepPort(mine *identity.Identity, port uint16) {
	if port == mine.ListenPort {
		return
	}
	if err := e.amend(func(i *identity.Identity) { i.ListenPort = port }); err != nil {
		e.log.Warn("port of the tunnel not kept", "error", err)
	}
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

// lastMap returns the map of the last run, nil when there is none for this peer.
func (e *Engine) lastMap(mine *identity.Identity) *mapstate.Map {
	raw, err := e.config.Store.LoadMap()
	if err != nil {
		e.log.Warn("last network map not read", "error", err)
	}
	if len(raw) == 0 {
		return nil
	}
	last := &mapstate.Map{}
	if err := json.Unmarshal(raw, last); err != nil {
		e.log.Warn("last network map not usable", "error", err)
		return nil
	}
	if last.Self.Id != mine.PeerID {
		return nil
	}
	return last
}

// disconnect ends the link if there is one. The caller holds commands.
func (e *Engine) disconnect(why ending) {
	e.mu.Lock()
	stop := e.stop
	e.link, e.stop = nil, nil
	e.mu.Unlock()
	if stop != nil {
		stop(why)
		e.broadcast()
	}
}

// forgetRemoved forgets a peer that the control plane has deleted. The address
// of the control plane stays, for the next enrolment.
func (e *Engine) forgetRemoved(l *link) {
	e.commands.Lock()
	defer e.commands.Unlock()
	e.mu.Lock()
	mine := e.link == l
	e.mu.Unlock()
	if !mine {
		return
	}
	e.log.Warn("peer removed by the control plane")
	if err := e.forget(); err != nil {
		e.log.Error("identity not forgotten", "error", err)
	}
	e.setNotice(control.ErrRemoved.Error())
}

// forget drops link and identity. The caller holds commands.
func (e *Engine) forget() error {
	e.disconnect(endsForGood)
	if err := e.config.Restore(context.Background()); err != nil {
		e.log.Error("host not put back", "error", err)
	}
	err := e.config.Store.Forget()
	e.mu.Lock()
	if err == nil {
		former := e.identity
		e.identity = nil
		if former != nil {
			e.notice = ""
		}
	}
	e.mu.Unlock()
	e.broadcast()
	return err
}

// Down disconnects the machine and leaves the host as it was.
func (e *Engine) Down(ctx context.Context) error {
	e.commands.Lock()
	defer e.commands.Unlock()
	e.mu.Lock()
	mine := e.identity
	e.mu.Unlock()
	if mine == nil || !mine.Enrolled() {
		return nil
	}
	if err := e.amend(func(i *identity.Identity) { i.Up = false }); err != nil {
		return err
	}
	e.mu.Lock()
	e.notice = ""
	e.mu.Unlock()
	e.disconnect(endsForGood)
	// A tunnel that could not be opened has put nothing back.
	return e.config.Restore(ctx)
}

// Logout forgets the identity, and deletes the peer when asked. When the
// deletion fails nothing is forgotten.
func (e *Engine) Logout(ctx context.Context, request local.LogoutRequest) error {
	e.commands.Lock()
	defer e.commands.Unlock()
	e.mu.Lock()
	mine := e.identity
	e.mu.Unlock()
	if mine == nil {
		return nil
	}
	if request.Delete && mine.Enrolled() {
		client, err := control.NewClient(e.clientConfig(mine))
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, withdrawTimeout)
		defer cancel()
		defer client.Close()
		if err := client.Withdraw(limited); err != nil {
			return explain(err, mine.ManagementURL, client.ClockOffset())
		}
	}
	return e.forget()
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

// overlay knows the ranges of the network, and who wants to know what names mean.
type overlay struct {
	networks atomic.Pointer[[]netip.Prefix]
	answered atomic.Pointer[func(context.Context, dns.Answered)]
}

// answer passes on what a name turned out to be.
func (o *overlay) answer(ctx context.Context, a dns.Answered) {
	if told := o.answered.Load(); told != nil {
		(*told)(ctx, a)
	}
}

func (o *overlay) set(networks []netip.Prefix) { o.networks.Store(&networks) }

func (o *overlay) contains(addr netip.Addr) bool {
	networks := o.networks.Load()
	if networks == nil {
		return false
	}
	return slices.ContainsFunc(*networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

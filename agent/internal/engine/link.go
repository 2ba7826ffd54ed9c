package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/agent/internal/forward"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// A link is one time between up and down: the parts of the agent and the
// session that feeds them.
//
//	session --OnMap--> newest --> loop: plan, firewall, tunnel, routes, paths, resolver --> saver
//	        --OnRelays, OnSignal--> paths
//
// Whoever loses access is cut by the firewall before anything else changes; who
// gains it can send only once the tunnel knows it, so the filter goes first
// there as well.
type link struct {
	log     *slog.Logger
	store   *identity.Store
	machine *Machine
	forward *forward.Forwarder
	carry   forward.Config // without addresses, which come with the map
	client  *control.Client
	session *control.Session
	overlay *overlay
	self    string // id of this machine
	memory  *pathMemory
	wall    func() time.Time // the clock of this machine
	changed func()           // tells the engine's waiters

	rotation *rotation

	newest chan *mapstate.Map // holds one, the newest
	saves  chan *mapstate.Map // the same
	again  chan struct{}      // holds one: apply the same map again

	urgent chan chan struct{} // the same, and closes the channel then

	tasks    sync.WaitGroup
	meanings meanings
	loaded   *mapstate.Map // the map of the last run, which is on disk; nil: none

	routers *routers // owned by the loop
	planned *desired // the same: the last one, in force or not
	under   func(*mapstate.Map) settings.Values

	mu      sync.Mutex // guards all below
	state   control.State
	given   *mapstate.Map // the newest of the session
	desired *desired      // in force
	applied *mapstate.Map // the one that desired was made of
	faults  []string      // of the last application
	took    time.Duration // the last application
	unsaved string        // why the last map is not on disk; empty when it is

	waiting map[string]string // better routers, by destination
}

// linkConfig is what a link needs; all but last is required.
type linkConfig struct {
	logger  *slog.Logger
	store   *identity.Store
	machine *Machine
	client  *control.Client
	overlay *overlay
	self    string
	memory  *pathMemory
	wall    func() time.Time
	carry   forward.Config
	under   func(*mapstate.Map) settings.Values
	facts   func(programs []string) (api.MachineFacts, error)
	epoch   string
	last    *mapstate.Map
	changed func()

	rotation *rotation
}

func newLink(c linkConfig) (*link, error) {
	l := &link{
		log: c.logger, store: c.store, machine: c.machine, carry: c.carry, client: c.client, overlay: c.overlay, changed: c.changed,
		self: c.self, memory: c.memory, wall: c.wall, rotation: c.rotation,
		newest: make(chan *mapstate.Map, 1), saves: make(chan *mapstate.Map, 1), again: make(chan struct{}, 1), urgent: make(chan chan struct{}),
		routers: newRouters(c.machine), under: c.under,
	}
	var err error
	if l.forward, err = forward.New(forward.Options{Logger: c.logger, Overlay: l}); err != nil {
		return nil, err
	}
	if relays := l.memory.former.Relays; len(relays) > 0 {
		l.giveRelays(relays)
	}
	var mine *mapstate.Map
	if c.last != nil {
		mine = c.last.Clone()
		l.loaded = c.last
		l.give(c.last)
	}
	session, err := control.NewSession(control.SessionConfig{
		Logger: c.logger, Client: c.client, Facts: c.facts, Map: mine, Epoch: c.epoch,
		OnMap:    l.give,
		OnRelays: l.setRelays,
		OnSignal: c.machine.Paths.HandleSignal,
		OnState:  l.setState,
	})
	if err != nil {
		return nil, err
	}
	l.session = session
	answered := l.answered
	l.overlay.answered.Store(&answered)
	// Not at once: what closes a socket may close the next one as well.
	unanswered := func() { time.AfterFunc(retryApply, l.applyAgain) }
	l.overlay.unanswered.Store(&unanswered)
	return l, nil
}

// give hands a map to the loop.
func (l *link) give(m *mapstate.Map) {
	l.mu.Lock()
	l.given = m
	l.mu.Unlock()
	replace(l.newest, m)
}

// replace puts a value into a channel that holds the newest one. There is one
// writer.
func replace(slot chan *mapstate.Map, m *mapstate.Map) {
	select {
	case <-slot:
	default:
	}
	slot <- m
}

// run works until ctx ends or the peer is removed, and leaves behind what the cause
// of the end says. The error is control.ErrRemoved, errTunnelGone
// or nil.
func (l *link) run(ctx context.Context) error {
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := l.machine.Paths.Run(ctx); err != nil {
			l.log.Error("paths ended", "error", err)
		}
	})
	parts.Go(func() { l.applyNewest(ctx) })
	parts.Go(func() { l.saveNewest(ctx) })
	parts.Go(func() { l.savePaths(ctx) })
	parts.Go(func() { watchSleep(ctx, l.wall, l.woke) })
	parts.Go(func() { l.rotateKeys(ctx) })
	gone := false // written before the parts end
	parts.Go(func() {
		select {
		case <-ctx.Done():
		case <-l.machine.Device.Ended():
			gone = true
			cancel()
		}
	})
	parts.Go(func() {
		if err := l.machine.Watch(ctx, l.networkChanged, l.interfaceDisturbed); err != nil {
			l.log.Warn("changes of the network not watched", "error", err)
		}
	})
	parts.Go(func() {
		if err := l.machine.Firewall.Watch(ctx, l.applyAgain); err != nil {
			l.log.Warn("packet filter not watched", "error", err)
		}
	})
	parts.Go(func() {
		if err := l.machine.Names.Watch(ctx, l.machine.Resolver.NetworkChanged); err != nil {
			l.log.Warn("name servers of this machine not watched", "error", err)
		}
	})
	err := l.session.Run(ctx)
	cancel()
	parts.Wait()
	l.tasks.Wait()
	l.client.Close()
	why := context.Cause(outer)
	switch {
	case errors.Is(err, control.ErrRemoved):
		why = endsForGood
	case gone && outer.Err() == nil:
		l.log.Warn("somebody has removed the interface of the tunnel, which is made again", "interface", l.machine.Interface)
		why = endsToReopen
	}
	if closing := errors.Join(l.forward.Close(), l.machine.close(why)); closing != nil {
		l.log.Error("host not left as it was", "error", closing)
	}
	switch {
	case errors.Is(err, control.ErrRemoved):
		return err
	case gone && outer.Err() == nil:
		return errTunnelGone
	}
	return nil
}

// networkChanged looks for better paths, and for the control plane if it is away.
// Routes of the host may have gone with an interface, or now overlap ours.
func (l *link) networkChanged() {
	l.log.Debug("network changed")
	l.applyAgain()
	l.machine.Paths.NetworkChanged()
	l.machine.Resolver.NetworkChanged()
	l.session.Wake()
}

// interfaceDisturbed gives the interface back what it had: somebody has set it down
// and up, by which addresses of IPv6 and routes go, or has taken them away.
func (l *link) interfaceDisturbed() {
	l.machine.Device.LookAgain()
	l.applyAgain()
}

// applyAgain makes the loop apply the map it has.
func (l *link) applyAgain() {
	select {
	case l.again <- struct{}{}:
	default: // it will
	}
}

func (l *link) setRelays(servers []api.RelayServer) {
	l.memory.setRelays(servers)
	l.giveRelays(servers)
}

func (l *link) giveRelays(servers []api.RelayServer) {
	relays := make([]connectivity.Relay, 0, len(servers))
	for _, server := range servers {
		pin := ""
		if server.CaPin != nil {
			pin = *server.CaPin
		}
		relays = append(relays, connectivity.Relay{
			URLs: server.Urls, Region: regionOf(server), Username: server.Username, Password: server.Password, Expires: server.Expires,
			TLS: func(host string) (*tls.Config, error) { return l.client.TLS(host, pin) },
		})
	}
	if err := l.machine.Paths.SetRelays(relays); err != nil {
		l.log.Warn("relays not all usable", "error", err)
	}
}

// regionOf is where a relay stands, empty when that is not told.
func regionOf(server api.RelayServer) string {
	if server.Region == nil {
		return ""
	}
	return *server.Region
}

func (l *link) setState(state control.State) {
	l.mu.Lock()
	l.state = state
	l.mu.Unlock()
	l.changed()
}

// ready reports whether the map is complete and in force.
func (l *link) ready() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.CaughtUp && l.applied != nil && l.applied == l.given
}

// snapshot returns what the link knows at this moment.
func (l *link) snapshot() (state control.State, wanted *desired, applied *mapstate.Map, faults []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.desired, l.applied, l.faults
}

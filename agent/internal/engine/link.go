package engine

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/forward"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// Choices of ours.
const (
	// retryApply is how long after a failure the same state is applied again.
	retryApply = 2 * time.Second

	// retrySave is how long after a failure the map is written again.
	retrySave = 5 * time.Second

	// saveInterval is the least time between two writes of the map.
	saveInterval = time.Second

	// What it took to apply a map is given back to the system once the map rests,
	// in a small network what the start took. It costs a garbage collection.
	spareAfter    = 3 * time.Second
	spareInterval = time.Minute
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
// of the end says. The error is control.ErrRemoved or nil.
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
	parts.Go(func() {
		if err := l.machine.Watch(ctx, l.networkChanged); err != nil {
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
	if errors.Is(err, control.ErrRemoved) {
		why = endsForGood
	}
	if closing := errors.Join(l.forward.Close(), l.machine.close(why)); closing != nil {
		l.log.Error("host not left as it was", "error", closing)
	}
	if errors.Is(err, control.ErrRemoved) {
		return err
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

// applyNewest owns the state of the host.
func (l *link) applyNewest(ctx context.Context) {
	var current *mapstate.Map
	retry, look, spare, turn := time.NewTimer(retryApply), time.NewTimer(lookIdle), time.NewTimer(spareAfter), time.NewTimer(turnLook)
	retry.Stop()
	look.Stop()
	spare.Stop()
	var spared time.Time
	for {
		var waits chan struct{}
		select {
		case <-ctx.Done():
			return
		case current = <-l.newest:
		case <-retry.C:
		case <-turn.C:
			if wait := l.untilTurn(); wait > 0 {
				turn.Reset(wait)
				continue
			}
		case <-l.again:
		case waits = <-l.urgent:
		case <-spare.C:
			debug.FreeOSMemory()
			spared = time.Now()
			continue
		case <-look.C:
			if moved, next := l.lookAtRouters(); !moved {
				look.Reset(next)
				continue
			}
		}
		if current == nil {
			continue // nobody waits before there is a map
		}
		begun := time.Now()
		faults := l.apply(ctx, current)
		l.timed(time.Since(begun))
		if waits != nil {
			close(waits)
		}
		retry.Stop()
		if turn.Stop(); len(faults) == 0 {
			turn.Reset(l.untilTurn())
		}
		spare.Reset(max(spareAfter, spareInterval-time.Since(spared)))
		if len(faults) > 0 {
			retry.Reset(retryApply)
		}
		look.Stop()
		if _, wanted, _, _ := l.snapshot(); wanted != nil && len(wanted.watched) > 0 {
			look.Reset(lookAwake)
		}
		l.rotation.look()
		l.changed()
	}
}

// lookAtRouters reports whether the traffic of a destination has to move.
func (l *link) lookAtRouters() (moved bool, next time.Duration) {
	_, wanted, _, _ := l.snapshot()
	if wanted == nil {
		return false, lookIdle
	}
	moved, next = l.routers.look(wanted)
	waiting := l.routers.waiting(wanted)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = waiting
	return moved, next
}

// apply makes the host what the map says. It goes as far as it can: a resolver
// without its port is no reason to keep a peer out. A firewall that fails is:
// nothing else changes then.
func (l *link) apply(ctx context.Context, m *mapstate.Map) []string {
	l.planned = plan(cmp.Or(l.planned, &desired{}), m, l.machine.Interface)
	wanted := l.planned
	for _, d := range wanted.destinations {
		d.named = l.meanings.of(d.key, l.routers.now())
	}
	wanted.firewall.At = l.wall()
	wanted.turn = wanted.firewall.Turn()
	values := l.under(m)
	wanted.chooseExit(exitWishOf(values))
	wanted.choosePaths(peerModesOf(values))
	wanted.require(values)
	wanted.lead(l.routers.pick, l.routers.down)
	l.routers.forget(wanted)
	var faults []error
	l.overlay.set(wanted.networks())
	if err := l.machine.Firewall.Set(ctx, wanted.firewall); err != nil {
		l.log.Error("rules not applied", "error", err)
		return l.note(nil, nil, []error{err})
	}
	if err := l.machine.Device.Set(ctx, wanted.tunnel); err != nil {
		faults = append(faults, err)
	}
	if err := l.machine.Routes.Set(ctx, wanted.routing); err != nil {
		faults = append(faults, err)
	}
	l.machine.Paths.SetPostQuantum(wanted.keys)
	l.machine.Paths.Keep(wanted.kept)
	l.machine.Paths.SetPeers(wanted.paths)
	if err := l.applyNames(ctx, wanted); err != nil {
		faults = append(faults, err)
	}
	carry := l.carry
	for _, own := range wanted.tunnel.Addresses {
		carry.Addresses = append(carry.Addresses, own.Addr())
	}
	if err := l.forward.Set(ctx, carry); err != nil {
		faults = append(faults, err)
	}
	if len(faults) > 0 && ctx.Err() == nil {
		l.log.Warn("network map applied in part", "error", errors.Join(faults...))
	}
	replace(l.saves, m)
	_, former, _, _ := l.snapshot()
	l.askMoved(ctx, former, wanted)
	return l.note(wanted, m, faults)
}

// applyNames sets what the resolver knows, and then who asks it: a machine must
// not be told to ask where nobody answers.
func (l *link) applyNames(ctx context.Context, wanted *desired) error {
	if err := l.machine.Resolver.Set(ctx, wanted.dns); err != nil {
		return errors.Join(err, l.machine.Names.Set(ctx, system.Config{}))
	}
	names := wanted.names
	if names.Interface != "" {
		names.Servers, _ = l.machine.Resolver.Serving()
	}
	return l.machine.Names.Set(ctx, names)
}

// timed publishes how long the last map took to apply.
func (l *link) timed(took time.Duration) {
	l.mu.Lock()
	l.took = took
	l.mu.Unlock()
}

// note publishes the outcome. A nil wanted keeps the one in force.
func (l *link) note(wanted *desired, m *mapstate.Map, faults []error) []string {
	texts := make([]string, 0, len(faults))
	for _, fault := range faults {
		texts = append(texts, fault.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if wanted != nil {
		l.desired, l.applied = wanted, m
	}
	l.faults = texts
	return texts
}

// saveNewest keeps the map for the next start, the newest one also at the end.
func (l *link) saveNewest(ctx context.Context) {
	var last time.Time
	var m *mapstate.Map
	retry := time.NewTimer(0)
	retry.Stop()
	for ended := false; !ended; {
		saved := true
		select {
		case <-ctx.Done():
			ended = true
		case m = <-l.saves:
			saved = l.save(m)
			last = time.Now()
		case <-retry.C:
			saved = l.save(m)
		}
		if retry.Stop(); !saved {
			retry.Reset(retrySave)
		}
		if ended {
			break
		}
		pause := time.NewTimer(time.Until(last.Add(saveInterval)))
		select {
		case <-ctx.Done():
			ended = true
		case <-pause.C:
		}
		pause.Stop()
	}
	select {
	case m := <-l.saves:
		l.save(m)
	default:
	}
}

// save keeps a map, and reports whether it is on disk.
func (l *link) save(m *mapstate.Map) bool {
	raw, err := m.MarshalJSON()
	if err == nil {
		err = l.store.SaveMap(raw)
	}
	unsaved := ""
	if err != nil {
		l.log.Error("network map not kept for the next start", "error", err)
		unsaved = fmt.Sprintf("the network map is not kept, and the next start needs the control plane: %v", err)
	}
	l.mu.Lock()
	changed := l.unsaved != unsaved
	l.unsaved = unsaved
	l.mu.Unlock()
	if changed {
		l.changed()
	}
	return err == nil
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

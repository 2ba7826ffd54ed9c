package engine

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/route"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

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

// persist connects a machine that shall be connected, or ends with ctx. While it
// does not succeed the daemon stays, so that status tells what is wrong, and tries
// again: while a machine starts, what is missing may still come.
func (e *Engine) persist(ctx context.Context) {
	for !e.reconnect() {
		if !rest(ctx, retryOpen) {
			return
		}
	}
}

// rest reports whether ctx has outlived d.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// errTunnelGone says that a link ended since somebody has removed its interface.
var errTunnelGone = errors.New("the interface of the tunnel is gone")

// reopen opens the tunnel of a link again that has lost it, unless something else
// has taken the place of the link. It waits before, since what removes interfaces
// may remove the next one as well.
func (e *Engine) reopen(ctx context.Context, l *link) {
	if !rest(ctx, reopenAfter) {
		return
	}
	e.commands.Lock()
	_, running, _ := e.now()
	if running == l {
		e.disconnect(endsToReopen)
	}
	e.commands.Unlock()
	e.persist(ctx)
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
		Logger: e.log, Key: mine.WireGuardKey, Mode: tunnel.Mode(v.Tunnel), Interface: v.Interface, Former: mine.Interface, ListenPort: uint16(v.ListenPort), MTU: v.MTU, Single: v.GSO == "off",
		Firewall: Enforcement(v.Firewall), Signal: briefly(signal), Overlay: network.contains, Resolver: e.outside.resolver(),
		KeepHostClosed:  !v.HostFirewall,
		RelayTransports: v.RelayTransports, Force: force(v.PathMode), PortMapping: v.PortMapping,
		Known: memory.known(), Learned: memory.learned,
		DNS: system.Kind(v.DNS), DNSJournal: filepath.Join(e.config.Store.Dir(), system.JournalFile),
		Journal: filepath.Join(e.config.Store.Dir(), route.JournalFile), Answered: network.answer, Unanswered: network.unanswer,
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
	e.keepPlace(mine, machine)
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
		switch {
		case errors.Is(err, control.ErrRemoved):
			e.forgetRemoved(l)
		case errors.Is(err, errTunnelGone):
			e.reopen(e.base()(), l)
		}
	})
	e.broadcast()
	return nil
}

// sight is how the agent looks at its machine.
func (e *Engine) sight(machine *Machine, network *overlay) control.Machine {
	return control.Machine{
		AgentVersion: e.config.Version, Hostname: e.values().Hostname, Interface: machine.Interface, Overlay: network.contains,
	}
}

// keepPlace remembers port and interface of the tunnel for the next start.
func (e *Engine) keepPlace(mine *identity.Identity, machine *Machine) {
	port, name := machine.Port(), machine.Interface
	if port == mine.ListenPort && name == mine.Interface {
		return
	}
	if err := e.amend(func(i *identity.Identity) { i.ListenPort, i.Interface = port, name }); err != nil {
		e.log.Warn("port and interface of the tunnel not kept", "error", err)
	}
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

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	wire "github.com/miekg/dns"

	"github.com/wattlenet/wattle/agent/internal/claim"
	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/dns"
	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/firewall"
	"github.com/wattlenet/wattle/agent/internal/mark"
	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/route"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/table"
)

// A Device is the tunnel as the engine uses it.
type Device interface {
	Set(ctx context.Context, settings tunnel.Settings) error
	SetKey(key tunnel.PrivateKey) error
	LookAgain()
	Ended() <-chan struct{}
	Stats() (map[tunnel.PublicKey]tunnel.Stats, error)
	Ping(ctx context.Context, to netip.Addr) (time.Duration, error)
	Close() error
}

// Paths finds the way to each peer, as the engine uses it.
type Paths interface {
	Run(ctx context.Context) error
	SetPeers(peers table.Table[string, connectivity.Peer])
	SetRelays(relays []connectivity.Relay) error
	HandleSignal(from string, box []byte)
	Wake(peerID string)
	Status(peerID string) (connectivity.Status, bool)
	RelayStatus() connectivity.RelayStatus
	NetworkStatus() connectivity.NetworkStatus
	Known() []connectivity.Known
	Woke()
	NetworkChanged()
	SetKeys(key, other tunnel.PrivateKey)
	SetPostQuantum(mode postquantum.Mode)
	Keep(every bool)
	Active(ctx context.Context) ([]connectivity.Active, error)
}

// A Resolver answers for names, as the engine uses it.
type Resolver interface {
	Set(ctx context.Context, c dns.Config) error
	Serving() (at []netip.AddrPort, note string)
	Lookup(name string) (dns.Host, bool)
	Answer(ctx context.Context, question *wire.Msg) *wire.Msg
	DialOutside(ctx context.Context) (net.Conn, error)
	NetworkChanged()
	Close() error
}

// A Network opens connections on the overlay.
type Network interface {
	// Dial connects to an address of another machine. Network is tcp or udp.
	Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error)

	// Listen and ListenPacket open an overlay address of this machine.
	Listen(ctx context.Context, at netip.AddrPort) (net.Listener, error)
	ListenPacket(ctx context.Context, at netip.AddrPort) (net.PacketConn, error)
}

// Routes is the routing of the host, as the engine uses it.
type Routes interface {
	Set(ctx context.Context, c route.Config) error
	Status() route.Status
	Suspend() (refuses bool, err error)
	Close() error
}

// Machine is the parts of the agent on this host, opened together.
type Machine struct {
	Device   Device
	Paths    Paths
	Firewall firewall.Enforcer
	Resolver Resolver
	Network  Network
	Names    system.Setter // who asks the resolver
	Routes   Routes

	// Claim keeps other agents of this host from the interface; nil: nobody could
	// want it.
	Claim io.Closer

	// KeepsPaths says that the packet filter keeps the paths of connections that
	// came in by other interfaces.
	KeepsPaths bool

	Mode       tunnel.Mode
	ModeReason string // why not the mode that was wished first
	Interface  string // empty without one
	Port       func() uint16
	Drops      func() tunnel.Drops

	// Watch calls changed when addresses or routes of the host have changed, and
	// disturbed when those of our interface have, until ctx ends.
	Watch func(ctx context.Context, changed, disturbed func()) error

	Note string // what is worth a warning
}

// MachineConfig is what opening needs.
type MachineConfig struct {
	Logger     *slog.Logger
	Key        tunnel.PrivateKey
	Mode       tunnel.Mode
	Firewall   Enforcement
	Interface  string
	Former     string // the interface of the last opening; empty: there was none
	ListenPort uint16
	MTU        int  // bytes; 0: what every path carries
	Single     bool // no segmentation offload

	// KeepHostClosed leaves the host's own firewall alone.
	KeepHostClosed bool

	// Force restricts the kinds of path; "" uses what works.
	Force connectivity.Path

	// PortMapping has the gateway of the network forward the tunnel's port.
	PortMapping bool

	// Journal is the file that keeps the settings of the host as they were.
	Journal string

	// RelayTransports are the ways to a relay that may be used; empty: all.
	RelayTransports []string

	// Known is what a former process knew about paths; Learned is called when
	// there is more to know. See connectivity.Config.
	Known   []connectivity.Known
	Learned func()

	// DNS is who decides which name servers the machine asks, and DNSJournal the
	// file that remembers what to put back.
	DNS        system.Kind
	DNSJournal string

	// Signal carries a sealed message to a peer.
	Signal func(ctx context.Context, peerID string, box []byte) error

	// Resolver finds relays; nil is the system's.
	Resolver *net.Resolver

	// Answered is called with the addresses that a name turned out to have, before
	// who asked learns them; nil: nobody wants to know.
	Answered func(ctx context.Context, a dns.Answered)

	// Unanswered is called when the resolver has lost a socket; nil: nobody wants to
	// know.
	Unanswered func()

	// Overlay reports whether an address belongs to the network: such an address
	// is no candidate.
	Overlay func(netip.Addr) bool
}

// Enforcement says who enforces the rules on an interface.
type Enforcement string

// The kinds of Enforcement. The network stack of the process always has its filter.
const (
	EnforceAuto      Enforcement = "auto"      // nftables where it works, else the process
	EnforceNftables  Enforcement = "nftables"  // or nothing
	EnforceUserspace Enforcement = "userspace" // the process of the agent
)

// OpenHost opens the parts on the real host: an interface with the kernel's
// packet filter where that is possible, else a network stack in the process
// with a filter of its own. The interface has no address yet.
func OpenHost(c MachineConfig) (*Machine, error) {
	if c.Mode != tunnel.ModeNetstack {
		machine, err := openInterface(c)
		// A port in use is in use in every mode, who named an interface that another
		// agent has did not ask for a stack, and a stack has no nftables.
		_, taken := errors.AsType[claim.Taken](err)
		if err == nil || c.Mode == tunnel.ModeUserspace || c.Mode == tunnel.ModeKernel || errors.Is(err, syscall.EADDRINUSE) || taken || c.Firewall == EnforceNftables {
			return machine, err
		}
		c.Logger.Info("no interface, using the network stack of the process", "error", err)
		stack, stackErr := openStack(c)
		if stackErr != nil {
			return nil, errors.Join(err, stackErr)
		}
		stack.ModeReason = err.Error()
		return stack, nil
	}
	return openStack(c)
}

// openEnforcer opens what enforces the rules on an interface. The filter, which
// stands between interface and device, is nil when the kernel does.
func openEnforcer(c MachineConfig) (enforcer firewall.Enforcer, filter tunnel.Filter, note string, err error) {
	kernel, err := firewall.Open(firewall.Options{Logger: c.Logger, Interface: c.Interface, KeepHostClosed: c.KeepHostClosed})
	if err == nil && c.Firewall != EnforceUserspace {
		return kernel, nil, "", nil
	}
	if err != nil && c.Firewall == EnforceNftables {
		return nil, nil, "", fmt.Errorf("nftables cannot be used: %w; start the daemon with --firewall auto to enforce the rules in its process", err)
	}
	if err == nil {
		// Opening has removed what an agent that was killed may have left.
		if err := kernel.Close(); err != nil {
			return nil, nil, "", err
		}
		note = "the rules are enforced in the process of the agent, as configured"
	} else {
		note = fmt.Sprintf("nftables cannot be used (%v): the rules are enforced in the process of the agent", err)
	}
	inProcess := firewall.NewFilter()
	return inProcess, inProcess, note + "; packets that come from other networks under an overlay address are not dropped", nil
}

func openInterface(c MachineConfig) (*Machine, error) {
	// Before anything of that name is touched.
	claimed, err := claim.Take("interface " + c.Interface)
	if err != nil {
		return nil, err
	}
	machine, err := openClaimed(c)
	if err != nil {
		return nil, errors.Join(err, claimed.Close())
	}
	machine.Claim = claimed
	return machine, nil
}

// leaveFormer removes what an agent that was killed has left for an interface that
// is not opened again: its packet filter would drop the network's packets by another.
func leaveFormer(c MachineConfig, opened string) {
	if c.Former == "" || c.Former == opened {
		return
	}
	if err := errors.Join(tunnel.RemoveFormer(c.Former, c.Key), firewall.UndoInterface(c.Former)); err != nil {
		c.Logger.Warn("what a former agent has left is not removed", "interface", c.Former, "error", err)
	}
}

func openClaimed(c MachineConfig) (*Machine, error) {
	leaveFormer(c, c.Interface)
	enforcer, filter, note, err := openEnforcer(c)
	if err != nil {
		return nil, err
	}
	mode := tunnel.ModeUserspace
	if c.Mode == tunnel.ModeKernel {
		mode = tunnel.ModeKernel
	}
	machine, err := open(c, mode, filter)
	if err != nil {
		return nil, errors.Join(err, enforcer.Close())
	}
	machine.Firewall, machine.Note, machine.KeepsPaths = enforcer, note, filter == nil
	machine.Routes, err = route.Open(route.Options{Logger: c.Logger, Interface: machine.Interface, Journal: c.Journal})
	if err != nil {
		c.Logger.Warn("routes of the host cannot be set", "error", err)
		machine.Routes = route.Refused(err)
	}
	return machine, nil
}

func openStack(c MachineConfig) (*Machine, error) {
	// What an agent with an interface has refused is nothing that this one leads.
	if err := route.Undo(route.Options{Logger: c.Logger, Journal: c.Journal}); err != nil {
		c.Logger.Warn("routes of a former agent not removed", "error", err)
	}
	leaveFormer(c, "")
	filter := firewall.NewFilter()
	machine, err := open(c, tunnel.ModeNetstack, filter)
	if err != nil {
		return nil, err
	}
	machine.Firewall, machine.Routes = filter, route.Stack()
	return machine, nil
}

func open(c MachineConfig, mode tunnel.Mode, filter tunnel.Filter) (*Machine, error) {
	// A stack of its own has no routes of the host to stay out of.
	own := mark.Value
	if mode == tunnel.ModeNetstack {
		own = 0
	}
	device, err := tunnel.New(tunnel.Config{
		Logger: c.Logger, PrivateKey: c.Key, Mode: mode, Interface: c.Interface, ListenPort: c.ListenPort, MTU: c.MTU, Single: c.Single, Filter: filter, Mark: own,
	})
	if err != nil {
		return nil, err
	}
	machine := &Machine{Device: device, Mode: device.Mode(), Interface: device.Interface(), Port: device.Bind().Port, Drops: device.Bind().Drops}
	name := device.Interface()
	machine.Watch = func(ctx context.Context, changed, disturbed func()) error {
		return route.Watch(ctx, name, changed, disturbed)
	}
	machine.Paths, err = connectivity.New(connectivity.Config{
		Logger: c.Logger, PrivateKey: c.Key, Bind: device.Bind(), Signal: c.Signal, Rekey: device.Rekey, Handshake: device.Handshake, PresharedKey: device.SetPresharedKey, Transports: c.RelayTransports,
		Force: c.Force, MTU: c.MTU, Mark: own, Resolver: c.Resolver, MapPort: c.PortMapping,
		Interface: func(other string) bool { return other != name && !strings.HasPrefix(other, "wt") },
		Address:   func(addr netip.Addr) bool { return !c.Overlay(addr) },
		Known:     c.Known, Learned: c.Learned,
	})
	if err != nil {
		return nil, errors.Join(err, device.Close())
	}
	if err := openNames(c, machine, device); err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return machine, nil
}

// openNames opens the way into the overlay, the resolver, and what makes this
// machine ask it. Without an interface nothing on the machine reaches the
// resolver, so nothing is told to.
func openNames(c MachineConfig, machine *Machine, device *tunnel.Device) (err error) {
	host := dns.HostNetwork{}
	machine.Network = host
	options := dns.Options{Logger: c.Logger, Inside: host.Dial, Outside: dns.HostNetwork{Control: mark.Socket}.Dial, Answered: c.Answered, Lost: c.Unanswered}
	kind := c.DNS
	if machine.Mode == tunnel.ModeNetstack {
		stack := stackNetwork{device}
		machine.Network, kind = stack, system.Off
		options.Inside = func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
			if c.Overlay(to.Addr()) {
				return stack.Dial(ctx, network, to)
			}
			return host.Dial(ctx, network, to)
		}
	}
	options.Network = machine.Network
	machine.Names, err = system.Open(context.Background(), system.Options{Logger: c.Logger, Kind: kind, Journal: c.DNSJournal})
	if err != nil {
		// Peers are reached by address, and by name in our own commands.
		c.Logger.Warn("name servers of this machine not set", "error", err)
		machine.Names = system.Unable(err)
	}
	options.Former = func() []dns.Server {
		var servers []dns.Server
		for _, addr := range machine.Names.Former().Servers {
			servers = append(servers, dns.Server{Addr: addr})
		}
		return servers
	}
	if machine.Resolver, err = dns.New(options); err != nil {
		return errors.Join(err, machine.Names.Close())
	}
	return nil
}

// stackNetwork reaches the overlay through the tunnel's own stack.
type stackNetwork struct{ device *tunnel.Device }

func (s stackNetwork) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	if network == "udp" {
		return s.device.DialUDP(to)
	}
	return s.device.Dial(ctx, to)
}

func (s stackNetwork) ListenPacket(_ context.Context, addr netip.AddrPort) (net.PacketConn, error) {
	return s.device.ListenPacket(addr)
}

func (s stackNetwork) Listen(_ context.Context, addr netip.AddrPort) (net.Listener, error) {
	return s.device.Listen(addr)
}

// An ending is why a link ends, and so what stays on the host until the next one.
// It is the cause of the end of the link's context.
type ending string

func (e ending) Error() string { return string(e) }

// The endings. One without a name is that of the daemon, which may be started
// again: it is like endsToReopen.
const (
	endsForGood  ending = "this machine is disconnected"                // nothing stays
	endsToMove   ending = "the tunnel is opened with another interface" // what the exit node refuses
	endsToReopen ending = "the tunnel is opened again"                  // and the packet filter with it
)

// close undoes what opening did, in the order that leaves no gap: names first, and
// of these who asks before who answers; then routes and interface, the packet
// filter last. What an exit node that fails closed refuses is refused on unless
// the machine is disconnected for good; the packet filter stays beside it, since it
// keeps the paths of those who are connected to this machine.
func (m *Machine) close(why error) error {
	err := errors.Join(m.Names.Close(), m.Resolver.Close())
	refuses := false
	if !errors.Is(why, endsForGood) {
		var fault error
		refuses, fault = m.Routes.Suspend()
		err = errors.Join(err, fault)
	}
	if !refuses {
		err = errors.Join(err, m.Routes.Close())
	}
	err = errors.Join(err, m.Device.Close())
	if !refuses || errors.Is(why, endsToMove) {
		err = errors.Join(err, m.Firewall.Close())
	}
	if m.Claim != nil {
		err = errors.Join(err, m.Claim.Close())
	}
	return err
}

// Package settings says what of the agent may be set on its machine, and which source of a value wins.
//
//	flag > WATTLE_* > settings file > pushed by the control plane > default
//
// To add a setting, add a field to Values and a row to the table below it, and
// make the engine act on the field: the flag of the daemon, the variable, the
// key of the file, `wattle set` and the reference follow from the row.
package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// Values are all settings in force.
type Values struct {
	Hostname        string   // "": the host name of the operating system
	LogLevel        string   // debug, info, warn or error
	Operator        string   // a user who may change the connection; "": root and the daemon's own only
	DNS             string   // one of Resolvers
	Tunnel          string   // auto, userspace, kernel or netstack
	Interface       string   // name of the tunnel's interface
	ListenPort      int      // UDP; 0: the system chooses
	MTU             int      // bytes; 0: what every path carries
	GSO             string   // auto or off
	Firewall        string   // auto, nftables or userspace
	HostFirewall    bool     // let the tunnel through the host's own firewall
	PathMode        string   // auto, direct or relay
	LazyConnections bool     // look for the path to a machine when there is traffic
	PeerPaths       []string // NAME=MODE: ways to single machines, in place of PathMode
	RelayTransports []string // ways to a relay that may be used; empty: all
	PortMapping     bool     // ask the gateway to forward the tunnel's port
	AcceptRoutes    bool     // use what lies behind machines, but for exit nodes
	ExitNode        string   // auto, off, or the name of a machine
	ExitNodeFail    string   // closed or open
	PostQuantum     string   // off, permissive or strict
	ExitNodeLocal   bool     // local subnets stay local while an exit node is used
}

// An Effect is what a change of a setting needs to act.
type Effect int

// The effects, the smallest first.
const (
	AtOnce Effect = iota // it is asked for when it is needed
	Apply                // the map is applied again
	Facts                // the control plane is told
	Reopen               // the tunnel is closed and opened; flows stall for a moment
)

// A Setting is one row of the table.
type Setting struct {
	// Name is the key in the file and for `wattle set`, with underscores; the
	// flag has hyphens, the variable is WATTLE_ and capitals.
	Name string

	// Usage is one line.
	Usage string

	// Choices are the values that exist; nil for others than these.
	Choices []string

	// Effect is what a change needs.
	Effect Effect

	field func(*Values) field
	check func(Values) error // nil: every value of the kind is right
}

// Flag is the name of the daemon's flag.
func (s Setting) Flag() string { return strings.ReplaceAll(s.Name, "_", "-") }

// Choices of settings.
var (
	Tunnels   = []string{"auto", "userspace", "kernel", "netstack"}
	Offloads  = []string{"auto", "off"}
	Firewalls = []string{"auto", "nftables", "userspace"}
	PathModes = []string{"auto", "direct", "relay"}
	// PeerModes are the ways to a single machine.
	PeerModes = append(slices.Clone(PathModes), "always")
	LogLevels = []string{"debug", "info", "warn", "error"}
	// Resolvers are who may be told about name servers.
	Resolvers = resolvers()
	// ExitFails are what may happen while the exit node does not answer.
	ExitFails = []string{"closed", "open"}
	// PostQuantums are what machines may want of each other.
	PostQuantums = []string{string(postquantum.Off), string(postquantum.Permissive), string(postquantum.Strict)}
	// Transports are the ways to a relay, the preferred first.
	Transports = []string{"udp", "tcp", "tls", "websocket"}
)

// table holds every setting, in the order in which they are shown.
var table = []Setting{
	{
		Name: "hostname", Usage: "what the machine calls itself; its name in the network follows, unless an administrator gave it another one (default: the host name)", Effect: Facts,
		field: func(v *Values) field { return (*text)(&v.Hostname) },
		check: func(v Values) error { return checkHostname(v.Hostname) },
	},
	{
		Name: "log_level", Usage: "least level that is logged", Choices: LogLevels,
		field: func(v *Values) field { return (*text)(&v.LogLevel) },
	},
	{
		Name: "operator", Usage: "user who may change the connection without being root; only root may set it",
		field: func(v *Values) field { return (*text)(&v.Operator) },
	},
	{
		Name: "dns", Usage: "who is told which name servers this machine asks; off is nobody", Choices: Resolvers, Effect: Reopen,
		field: func(v *Values) field { return (*text)(&v.DNS) },
	},
	{
		Name: "tunnel", Usage: "kind of tunnel: an interface (userspace), WireGuard of the Linux kernel (kernel), or the network stack of the process, which needs no root (netstack)",
		Choices: Tunnels, Effect: Reopen,
		field: func(v *Values) field { return (*text)(&v.Tunnel) },
	},
	{
		Name: "interface", Usage: "name of the interface", Effect: Reopen,
		field: func(v *Values) field { return (*text)(&v.Interface) },
		check: func(v Values) error { return checkInterface(v.Interface) },
	},
	{
		Name: "listen_port", Usage: "UDP port of the tunnel; 0 lets the system choose", Effect: Reopen,
		field: func(v *Values) field { return number{&v.ListenPort, 0, 65535} },
	},
	{
		Name: "mtu", Usage: fmt.Sprintf("largest packet of the tunnel in bytes, %d to %d; 0 is what every path carries", tunnel.DefaultMTU, tunnel.MaximumMTU),
		Effect: Reopen,
		field:  func(v *Values) field { return number{&v.MTU, 0, tunnel.MaximumMTU} },
		check: func(v Values) error {
			if v.MTU != 0 && v.MTU < tunnel.DefaultMTU {
				return fmt.Errorf("%d is below what IPv6 needs; use 0, or %d to %d", v.MTU, tunnel.DefaultMTU, tunnel.MaximumMTU)
			}
			return nil
		},
	},
	{
		Name: "gso", Usage: "batches of packets leave as one for the kernel or the network card to cut up (auto), or each by itself (off), where that is broken", Choices: Offloads, Effect: Reopen,
		field: func(v *Values) field { return (*text)(&v.GSO) },
	},
	{
		Name: "firewall", Usage: "who enforces the rules on an interface: the kernel (nftables) or the daemon (userspace)", Choices: Firewalls, Effect: Reopen,
		field: func(v *Values) field { return (*text)(&v.Firewall) },
	},
	{
		Name: "host_firewall", Usage: "let the tunnel through the host's own firewall where that drops it; the rules of the network judge it", Effect: Reopen,
		field: func(v *Values) field { return (*toggle)(&v.HostFirewall) },
	},
	{
		Name: "path_mode", Usage: "ways to other machines that are used: what works (auto), direct ones alone, or the relay alone", Choices: PathModes, Effect: Reopen,
		field: func(v *Values) field { return (*text)(&v.PathMode) },
	},
	{
		Name: "peer_paths", Usage: "ways to single machines, in place of path_mode: NAME=MODE with " + oneOf(PeerModes) + "; always keeps the path open while there is nothing to send", Effect: Apply,
		field: func(v *Values) field { return (*list)(&v.PeerPaths) },
		check: func(v Values) error { return checkPeerPaths(v.PeerPaths) },
	},
	{
		Name: "lazy_connections", Usage: "look for the path to a machine when there is traffic (on), or keep one open to every machine (off); the network says so unless it is set here", Effect: Apply,
		field: func(v *Values) field { return (*toggle)(&v.LazyConnections) },
	},
	{
		Name: "relay_transports", Usage: "ways to a relay that may be used: " + strings.Join(Transports, ", ") + " (default: the first of these that works)", Effect: Reopen,
		field: func(v *Values) field { return (*list)(&v.RelayTransports) },
		check: func(v Values) error { return checkTransports(v.RelayTransports) },
	},
	{
		Name: "port_mapping", Usage: "ask the gateway of the network to forward the tunnel's port (PCP, NAT-PMP, UPnP)", Effect: Reopen,
		field: func(v *Values) field { return (*toggle)(&v.PortMapping) },
	},
	{
		Name: "accept_routes", Usage: "use the subnets and names behind machines of the network; exit_node is about the rest", Effect: Apply,
		field: func(v *Values) field { return (*toggle)(&v.AcceptRoutes) },
	},
	{
		Name: "exit_node", Usage: "machine that all else of this machine's traffic leaves by: a name, auto (what the network applies by itself) or off", Effect: Apply,
		field: func(v *Values) field { return (*text)(&v.ExitNode) },
		check: func(v Values) error {
			if v.ExitNode == "" {
				return errors.New("a name is missing; use auto, off, or the name of a machine")
			}
			return nil
		},
	},
	{
		Name: "exit_node_fail", Usage: "what happens while the exit node does not answer: nothing leaves (closed), or all as without one (open)", Choices: ExitFails, Effect: Apply,
		field: func(v *Values) field { return (*text)(&v.ExitNodeFail) },
	},
	{
		Name: "exit_node_local", Usage: "reach local subnets while an exit node is used", Effect: Apply,
		field: func(v *Values) field { return (*toggle)(&v.ExitNodeLocal) },
	},
	{
		Name: "post_quantum", Usage: "mix keys that withstand quantum computers (ML-KEM-768) into sessions: where the other machine can (permissive), or nothing flows without (strict); the network says so unless it is set here",
		Choices: PostQuantums, Effect: Apply,
		field: func(v *Values) field { return (*text)(&v.PostQuantum) },
	},
}

func resolvers() (names []string) {
	for _, kind := range system.Kinds {
		names = append(names, string(kind))
	}
	return names
}

// Defaults are the values that nobody has set.
func Defaults() Values {
	return Values{
		LogLevel: "info", DNS: string(system.Auto), Tunnel: "auto", Interface: tunnel.DefaultInterface, GSO: "auto", Firewall: "auto", PathMode: "auto", LazyConnections: true, PortMapping: true,
		ExitNode: "auto", ExitNodeFail: "closed", AcceptRoutes: true, HostFirewall: true, ExitNodeLocal: true, PostQuantum: string(postquantum.Off),
	}
}

// All returns every setting, in the order in which they are shown.
func All() []Setting { return slices.Clone(table) }

// Find returns the setting with a name, written with underscores or hyphens.
func Find(name string) (Setting, bool) {
	name = strings.ReplaceAll(name, "-", "_")
	at := slices.IndexFunc(table, func(s Setting) bool { return s.Name == name })
	if at < 0 {
		return Setting{}, false
	}
	return table[at], true
}

// Difference returns the largest effect of the settings that differ.
func Difference(a, b Values) Effect {
	effect := AtOnce
	for _, s := range table {
		if s.field(&a).String() != s.field(&b).String() {
			effect = max(effect, s.Effect)
		}
	}
	return effect
}

// Check reports what is wrong with a text as the value of the setting.
func (s Setting) Check(value string) error {
	v := Defaults()
	return s.parse(&v, value)
}

// parse sets the field of a setting to a text and checks it.
func (s Setting) parse(v *Values, value string) error {
	if s.Choices != nil && !slices.Contains(s.Choices, value) {
		return fmt.Errorf("%q is unknown; use %s", value, oneOf(s.Choices))
	}
	if err := s.field(v).parse(value); err != nil {
		return err
	}
	if s.check == nil {
		return nil
	}
	return s.check(*v)
}

// oneOf writes a list with an "or" before its last.
func oneOf(list []string) string {
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " or " + list[last]
}

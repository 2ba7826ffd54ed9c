// Package connectivity finds, keeps and upgrades the path to each peer:
// through a relay at once (RFC 8656), directly as soon as ICE (RFC 8445) finds a way.
package connectivity

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// MaximumBox is the size in bytes of the largest sealed message.
const MaximumBox = 8 << 10

// Config is what a Pathfinder needs.
type Config struct {
	Logger     *slog.Logger      // required
	PrivateKey tunnel.PrivateKey // required: the tunnel's key
	Bind       *tunnel.Bind      // required: the tunnel's sockets

	// Signal carries one sealed message of at most MaximumBox bytes to the peer
	// with this ID. It may block for as long as ctx lives and is called from
	// several goroutines, for one peer from one at a time. An error is retried
	// with growing delays. Required.
	Signal func(ctx context.Context, peerID string, box []byte) error

	// Interface reports whether the addresses of a network interface may be
	// offered to peers. The tunnel's own interface must be refused. Nil accepts
	// every interface.
	Interface func(name string) bool

	// Address reports whether a local address may be offered, and whether a
	// peer's address may be checked: refuse the overlay's own prefix. Nil
	// accepts all.
	Address func(netip.Addr) bool

	// Loopback offers loopback addresses too; for tests.
	Loopback bool

	// Rekey tells the device to begin a new session with a peer at its next
	// packet, because the peer has restarted and knows no session any more. Nil
	// leaves it to WireGuard's own timers (15 s). See tunnel.Device.Rekey.
	Rekey func(tunnel.PublicKey)

	// Handshake tells the device to begin a new session with a peer beside the
	// present one. Nil leaves it to the next packet. See tunnel.Device.Handshake.
	Handshake func(tunnel.PublicKey)

	// PresharedKey tells the device what sessions between a key of this machine and
	// one of a peer begin with; zero for what it does without. Nil where nothing is
	// ever agreed on. See tunnel.Device.SetPresharedKey.
	PresharedKey func(own, peer tunnel.PublicKey, key tunnel.PresharedKey) error

	// MTU of the tunnel in bytes; 0 is tunnel.DefaultMTU.
	MTU int

	// Mark is put on the streams to relays (Linux, privileged). 0: none.
	Mark uint32

	// Resolver finds relays; nil is the system's.
	Resolver *net.Resolver

	// MapPort has the gateway of the network forward the tunnel's port.
	MapPort bool

	// IdleAfter is how long no packet leaves to a peer until its path is given
	// up; the next packet finds one again. 0: 5 min.
	IdleAfter time.Duration

	// Force restricts the kinds of path to peers whose Mode says nothing about
	// them: "" uses what works.
	Force Path

	// Transports are the ways to a relay that may be used, as RelayStatus names
	// them. Empty: all.
	Transports []string

	// Known is what a former process of this machine knew; empty: nothing.
	Known []Known

	// Learned is called, soon and from several goroutines, when what Known
	// returns has changed. Nil: nobody wants to know. It must not call back.
	Learned func()
}

// A Peer is another machine of the network map.
type Peer struct {
	ID        string // as the control plane knows it
	PublicKey tunnel.PublicKey

	// Watched tells early when the peer does not answer by any path, and measures
	// its round trip: for a peer whose place another can take.
	Watched bool

	// NextKey is the key that the peer will change over to; zero for none.
	NextKey tunnel.PublicKey

	Mode Mode
}

// A Mode says which paths to one peer are used.
type Mode string

const (
	ModeDefault Mode = ""       // those that Config.Force leaves
	ModeAuto    Mode = "auto"   // what works
	ModeDirect  Mode = "direct" // no packet takes a relay
	ModeRelay   Mode = "relay"  // no direct path is looked for
	ModeAlways  Mode = "always" // as ModeDefault; the path stays open while there is nothing to send
)

// A Relay is a TURN or STUN server with the credential for it.
type Relay struct {
	// URLs as RFC 7065 and RFC 7064 write them: turn:host:port?transport=udp,
	// turn:host:port?transport=tcp, turns:host:port?transport=tcp,
	// stun:host:port; or wss://host:port/path for TURN in a WebSocket. Without
	// transport: UDP, of turns: TCP.
	URLs []string

	// Region is where the relay stands, in words for people. Empty: not told.
	Region string

	// TLS returns how to check the certificate of host, for turns: and wss:.
	// The configuration is the caller's to change. Nil trusts the system's
	// authorities.
	TLS func(host string) (*tls.Config, error)

	Username string    // empty for STUN alone
	Password string    //
	Expires  time.Time // of the credential; zero: never
}

// A Path is the kind of way that packets take.
type Path string

const (
	PathIdle    Path = "idle"    // nothing to send, or not found yet
	PathRelayed Path = "relayed" // through the relay
	PathDirect  Path = "direct"  // from socket to socket
)

// A Reason says why a peer is not reached directly.
type Reason string

const (
	ReasonNone        Reason = ""
	ReasonUDPBlocked  Reason = "udp_blocked"         // no UDP leaves this network
	ReasonHardNAT     Reason = "hard_nat_both"       // both sides map by destination
	ReasonNoAnswer    Reason = "no_answer"           // no check was answered
	ReasonOffline     Reason = "peer_offline_signal" // the peer does not answer offers
	ReasonPolicy      Reason = "policy_relay"        // the peer takes no direct path
	ReasonCaptured    Reason = "route_captured"      // a route leads the peer's address into the tunnel
	ReasonMTU         Reason = "mtu"                 // the direct path carries no full packet
	ReasonChecking    Reason = "checking"            // an attempt is under way
	ReasonRelayForced Reason = "relay_only_mode"     // asked for here
)

// A Status is what is known about the path to a peer.
type Status struct {
	Path  Path
	Since time.Time // of Path; zero when the peer was never awake

	// Local and Remote are the candidates of a direct path, or the relayed
	// addresses of a relayed one; empty when idle.
	Local  string
	Remote string
	Relay  string // address of the relay; empty unless relayed

	// RTT is the round trip measured last by a probe; zero: not measured.
	RTT time.Duration

	// Lost says that a watched peer was asked on every path and has not answered.
	Lost bool

	// Heard is when anything arrived from the peer last; zero: never since it was
	// woken.
	Heard time.Time

	// Sent is when data was sent to the peer last; zero: never since it was woken.
	Sent time.Time

	// MTU is the largest packet of the overlay that the direct path carries, in
	// bytes; 0: as large as any.
	MTU int

	// Reason says why the path is not direct; empty when it is, or when idle.
	Reason      Reason
	LastAttempt time.Time // of ICE; zero: none
	LastError   string    // of that attempt; empty: it succeeded or still runs
	RelayError  string    // why the relay carries nothing to the peer; empty: nothing is known against it
	Keys        KeyStatus //
	Attempt     *Record   // of the last attempt while the pair is awake; nil before the peer has joined it
}

// A KeyStatus is what is known about post-quantum keys with a peer.
type KeyStatus struct {
	State  postquantum.State  // empty: this machine does not want any
	Reason postquantum.Reason // of Pending and Unavailable

	// Since is when sessions began to take them; zero unless Agreed. A session that
	// is older has none.
	Since time.Time
}

// A RelayStatus is what is known about this machine's allocation.
type RelayStatus struct {
	Server    string // host:port; empty: no relay is configured or none answers
	Region    string // where it stands; empty: not told
	Transport string // udp, tcp, tls or websocket
	Relayed   string // the address peers reach this machine at
	Mapped    string // this machine's address as the server sees it; UDP only
	Error     string // of the last attempt to allocate; empty: it succeeded
}

// A GatewayStatus is what the gateway of the network does for this machine.
type GatewayStatus struct {
	Protocol string // pcp, nat-pmp or upnp; empty: it forwards nothing
	Address  string // of the gateway
	External string // address and port that it forwards
	Error    string // why it forwards nothing
}

// A NetworkStatus is how this machine's datagrams reach the world.
type NetworkStatus struct {
	Access  Access
	Mapped  []string // addresses that servers see, at most one for each version of IP
	Gateway GatewayStatus
}

var errConfig = errors.New("connectivity: logger, private key, bind and signal are required")

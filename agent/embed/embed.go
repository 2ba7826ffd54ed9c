// Package embed makes a Go program a peer of a Wattle network.
//
// The peer lives inside the process: no root, no interface, no daemon, no cgo.
// Other machines see it under a name and address of its own, and policies
// decide who reaches whom as for any machine.
//
//	peer, err := embed.Join(ctx, embed.Config{ManagementURL: "https://mesh.example:8443", CAPin: pin, SetupKey: key, Name: "billing"})
//	...
//	defer peer.Close()
//	listener, err := peer.Listen("tcp", ":80")          // for the machines of the network
//	connection, err := peer.Dial(ctx, "tcp", "db-1:5432") // to one of them
//
// It keeps what the agent keeps: direct paths where there are any, relays
// otherwise, and the last network map while the control plane is away.
package embed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/wattlenet/wattle/agent/internal/engine"
	"github.com/wattlenet/wattle/agent/internal/forward"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/program"
)

// leaveTimeout bounds the deletion of a peer that kept nothing.
const leaveTimeout = 10 * time.Second

// What Dial says when nothing is sent at all.
var (
	// ErrDenied means that no rule permits the connection.
	ErrDenied = forward.ErrDenied

	// ErrElsewhere means that the address is none of the network's.
	ErrElsewhere = forward.ErrElsewhere

	// ErrNoName means that the network knows no such name, or shows it not to
	// this peer.
	ErrNoName = forward.ErrNoName
)

// Config says which network to join, and as whom.
type Config struct {
	// ManagementURL is the address of the control plane, such as
	// https://mesh.example:8443. Required.
	ManagementURL string

	// SetupKey lets the peer in. It may be empty when StateDir holds a peer.
	SetupKey string

	// CAPin names the control plane's certificate authority: sha256: and 64
	// hexadecimal digits. Empty trusts what the system trusts.
	CAPin string

	// InsecureHTTP takes an http: URL that leads beyond this machine.
	InsecureHTTP bool

	// Name is what the peer calls itself; its DNS name follows. Empty is the
	// host name of the system.
	Name string

	// StateDir keeps keys and the last network map, so that the next start is the
	// same peer, with the same address, and works without the control plane. One
	// process at a time may use it. Empty keeps nothing: Close deletes the peer.
	StateDir string

	// ListenPort is the UDP port of the tunnel; 0 lets the system choose.
	ListenPort uint16

	// Logger hears what the agent would log; nil is silence.
	Logger *slog.Logger
}

// A Peer is this process on the network. All methods may be called at any time
// from several goroutines.
type Peer struct {
	engine *engine.Engine
	leave  bool // delete the peer at the end
	state  string
	store  *identity.Store
	stop   context.CancelFunc
	ended  chan error
	closed chan struct{}
	first  chan struct{} // holds a token until Close takes it
}

// Join makes the process a peer, or takes up the one in StateDir, and returns
// when it can be used; ctx bounds that wait and nothing else. The error says
// what is wrong and what to do.
func Join(ctx context.Context, c Config) (*Peer, error) {
	if c.ManagementURL == "" {
		return nil, errors.New("embed: ManagementURL is required")
	}
	if c.Logger == nil {
		c.Logger = program.Quiet()
	}
	p := &Peer{state: c.StateDir, leave: c.StateDir == "", ended: make(chan error, 1), closed: make(chan struct{}), first: make(chan struct{}, 1)}
	p.first <- struct{}{}
	if p.leave {
		var err error
		if p.state, err = os.MkdirTemp("", "wattle-embed-"); err != nil {
			return nil, fmt.Errorf("embed: %w", err)
		}
	}
	if err := p.open(c); err != nil {
		return nil, errors.Join(err, p.forget())
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	go func() { p.ended <- p.engine.Run(running) }()
	request := local.UpRequest{ManagementURL: c.ManagementURL, SetupKey: c.SetupKey, CAPin: c.CAPin, InsecureHTTP: c.InsecureHTTP}
	if deadline, ok := ctx.Deadline(); ok {
		request.TimeoutSeconds = time.Until(deadline).Seconds()
	}
	if err := p.engine.Up(ctx, request); err != nil {
		return nil, errors.Join(fmt.Errorf("embed: %w", err), p.Close())
	}
	return p, nil
}

func (p *Peer) open(c Config) (err error) {
	book, err := settings.Open("", settings.Given{
		"hostname": c.Name, "tunnel": string(tunnel.ModeNetstack), "listen_port": strconv.Itoa(int(c.ListenPort)),
	}, nil)
	if err != nil {
		return fmt.Errorf("embed: %w", err)
	}
	if p.store, err = identity.Open(p.state); err != nil {
		return fmt.Errorf("embed: %w", err)
	}
	p.engine, err = engine.New(engine.Config{
		Logger: c.Logger, Store: p.store, Version: program.Version(), Settings: book,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("embed: %w", err), p.store.Close())
	}
	return nil
}

// Dial connects to host:port over the network. Network is tcp or udp; host is
// the name of a machine, a name of a zone, or an address. It is a DialContext
// for http.Transport. What no rule permits is ErrDenied at once.
func (p *Peer) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return p.engine.Dial(ctx, network, address)
}

// Listen accepts connections of other peers. Network is tcp; address is :port,
// which listens on every address of the peer and goes along when they change,
// or one of its addresses and a port. Port 0 lets the peer choose.
func (p *Peer) Listen(network, address string) (net.Listener, error) {
	if network != "tcp" {
		return nil, fmt.Errorf("embed: listen on the network %q: use tcp, or ListenPacket", network)
	}
	at, err := place(address)
	if err != nil {
		return nil, err
	}
	return p.engine.Listen(context.Background(), at)
}

// ListenPacket receives datagrams of other peers. Network is udp; address is as
// for Listen.
func (p *Peer) ListenPacket(network, address string) (net.PacketConn, error) {
	if network != "udp" {
		return nil, fmt.Errorf("embed: receive on the network %q: use udp", network)
	}
	at, err := place(address)
	if err != nil {
		return nil, err
	}
	return p.engine.ListenPacket(context.Background(), at)
}

// place reads an address of Listen.
func place(address string) (netip.AddrPort, error) {
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("embed: %w", err)
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("embed: %q is not a port", number)
	}
	if host == "" {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)), nil // both versions of IP
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("embed: listen on %q: name an address of this peer, or none", host)
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// Name is the whole DNS name of the peer, which the control plane may have
// made distinct from the one that was asked for.
func (p *Peer) Name() string { return p.engine.Status(context.Background()).FQDN }

// Addresses are those of the peer on the network, IPv4 first.
func (p *Peer) Addresses() []netip.Addr {
	var list []netip.Addr
	for _, text := range p.engine.Status(context.Background()).Addresses {
		if addr, err := netip.ParseAddr(text); err == nil {
			list = append(list, addr)
		}
	}
	return list
}

// Warnings are sentences about what is wrong, with the next step; none when
// all is well.
func (p *Peer) Warnings() []string { return p.engine.Status(context.Background()).Warnings }

// Close leaves the network and returns when nothing of the peer runs any more.
// Connections and listeners end. A peer without StateDir is deleted; the error
// says when that could not be told to the control plane. A second call waits
// for the first and returns nil.
func (p *Peer) Close() error {
	select {
	case <-p.first:
	default:
		<-p.closed
		return nil
	}
	defer close(p.closed)
	var err error
	if p.leave {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
		err = p.engine.Logout(ctx, local.LogoutRequest{Delete: true})
		cancel()
	}
	p.stop()
	return errors.Join(err, <-p.ended, p.store.Close(), p.forget())
}

// forget removes a folder that was nobody's.
func (p *Peer) forget() error {
	if !p.leave {
		return nil
	}
	return os.RemoveAll(p.state)
}

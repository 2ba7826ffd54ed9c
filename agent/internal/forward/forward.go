// Package forward carries connections between this host's programs and the overlay of a machine that has no interface.
//
//	program --SOCKS5, HTTP CONNECT--> proxy --+
//	program --TCP, UDP--> forward out --------+--> Overlay.Dial --> peer
//	peer --> Overlay.Listen --> forward in --> service of this host
//
// It works beside an interface as well, so that one command line fits machines
// with and without the right to make one. Who may reach whom is not decided
// here: the packet filter of the tunnel judges every packet.
package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Choices of ours.
const (
	// dialTimeout bounds the wait for the other end of a connection.
	dialTimeout = 20 * time.Second

	// maxConnections bounds what one listener carries at once, so that nobody
	// uses up the file descriptors of the daemon.
	maxConnections = 1024

	// acceptPause follows a failed accept: the process may be out of file
	// descriptors for a moment.
	acceptPause = 100 * time.Millisecond
)

// What an Overlay says when it opens no connection.
var (
	// ErrDenied means that no rule permits the connection.
	ErrDenied = errors.New("no rule permits it")

	// ErrElsewhere means that the destination is none of the network's.
	ErrElsewhere = errors.New("it does not belong to the network")

	// ErrNoName means that the network knows no such name.
	ErrNoName = errors.New("no such name")
)

// An Overlay opens connections on the network of this machine.
type Overlay interface {
	// Dial connects to host:port, where host is a name of the network or an
	// address. Network is tcp or udp.
	Dial(ctx context.Context, network, address string) (net.Conn, error)

	// Listen and ListenPacket open an overlay address of this machine.
	Listen(ctx context.Context, at netip.AddrPort) (net.Listener, error)
	ListenPacket(ctx context.Context, at netip.AddrPort) (net.PacketConn, error)
}

// Options are what a Forwarder needs; all are required.
type Options struct {
	Logger  *slog.Logger
	Overlay Overlay
}

// A Config is everything that is carried.
type Config struct {
	// Proxy is where SOCKS5 and HTTP CONNECT are answered, both on one port; the
	// zero value answers nowhere.
	Proxy netip.AddrPort

	// Out are listeners on this host that lead to the overlay, In ports of the
	// overlay that lead to services of this host.
	Out, In []Rule

	// Addresses are the overlay addresses of this machine, on which In listens.
	Addresses []netip.Addr
}

// A Forwarder holds the listeners of a Config.
type Forwarder struct {
	log     *slog.Logger
	overlay Overlay

	mu       sync.Mutex // guards services and faults
	services map[plan]*service
	faults   map[plan]error
	order    []plan
}

// New makes a Forwarder that carries nothing until Set.
func New(o Options) (*Forwarder, error) {
	if o.Logger == nil || o.Overlay == nil {
		return nil, errors.New("forward: logger and overlay are required")
	}
	return &Forwarder{log: o.Logger, overlay: o.Overlay, services: map[plan]*service{}, faults: map[plan]error{}}, nil
}

// plan is one listener of a Config.
type plan struct {
	kind    Kind
	network string // tcp or udp
	listen  netip.AddrPort
	target  string // empty for the proxy
}

func (c Config) plans() []plan {
	var list []plan
	if c.Proxy.IsValid() {
		list = append(list, plan{kind: KindProxy, network: "tcp", listen: c.Proxy})
	}
	for _, r := range c.Out {
		list = append(list, plan{kind: KindOut, network: r.Network, listen: r.Listen, target: r.Target})
	}
	for _, r := range c.In {
		for _, addr := range c.Addresses {
			list = append(list, plan{kind: KindIn, network: r.Network, listen: netip.AddrPortFrom(addr, r.Listen.Port()), target: r.Target})
		}
	}
	return list
}

// Set opens and closes listeners until they are what c says; connections of
// those that stay are not touched. The error names the listeners that could not
// be opened; the others work, and a later Set tries again.
func (f *Forwarder) Set(ctx context.Context, c Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.order = c.plans()
	for p, s := range f.services {
		if !slices.Contains(f.order, p) {
			s.close()
			delete(f.services, p)
		}
	}
	clear(f.faults)
	var faults []error
	for _, p := range f.order {
		if f.services[p] != nil {
			continue
		}
		s, err := f.open(ctx, p)
		if err != nil {
			f.faults[p] = err
			faults = append(faults, err)
			continue
		}
		f.services[p] = s
	}
	return errors.Join(faults...)
}

// Close ends all listeners and connections, and returns when nothing of the
// forwarder runs any more.
func (f *Forwarder) Close() error { return f.Set(context.Background(), Config{}) }

// A Kind says which way a listener leads.
type Kind string

// The kinds of listeners.
const (
	KindProxy Kind = "proxy" // to any address of the overlay
	KindOut   Kind = "out"   // to one address of the overlay
	KindIn    Kind = "in"    // to one service of this host
)

// Status is one listener.
type Status struct {
	Kind        Kind
	Network     string // tcp or udp
	Listen      netip.AddrPort
	Target      string // empty for the proxy
	Connections uint64 // carried since it was opened; of UDP the pairs of addresses
	Err         error  // why it is not open; nil when it is
}

// Status lists the listeners in the order of the Config.
func (f *Forwarder) Status() []Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]Status, 0, len(f.order))
	for _, p := range f.order {
		s := Status{Kind: p.kind, Network: p.network, Listen: p.listen, Target: p.target, Err: f.faults[p]}
		if running := f.services[p]; running != nil {
			s.Connections = running.served.Load()
			s.Listen = running.at // with the port that the system chose
		}
		list = append(list, s)
	}
	return list
}

// service is one open listener with its connections.
type service struct {
	plan    plan
	at      netip.AddrPort
	log     *slog.Logger
	overlay Overlay
	open    connections
	served  atomic.Uint64
	running sync.WaitGroup
	stop    func() // ends accepting and dialling
}

func (f *Forwarder) open(ctx context.Context, p plan) (*service, error) {
	s := &service{plan: p, at: p.listen, log: f.log, overlay: f.overlay}
	// What runs here outlives the call that opened it.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if p.network == "udp" {
		packets, err := s.listenPacket(ctx)
		if err != nil {
			cancel()
			return nil, s.refused(err)
		}
		s.stop = func() { cancel(); _ = packets.Close() } // nothing is written that could be lost
		s.running.Go(func() { s.relay(running, packets) })
		return s, nil
	}
	listener, err := s.listen(ctx)
	if err != nil {
		cancel()
		return nil, s.refused(err)
	}
	if at, ok := listener.Addr().(*net.TCPAddr); ok && s.at.Port() == 0 {
		s.at = netip.AddrPortFrom(s.at.Addr(), uint16(at.Port))
	}
	s.stop = func() { cancel(); _ = listener.Close() } // the same
	if p.kind == KindProxy {
		s.running.Go(func() { s.proxy(running, listener) })
	} else {
		s.running.Go(func() { s.accept(running, listener, s.pass) })
	}
	return s, nil
}

func (s *service) listen(ctx context.Context) (net.Listener, error) {
	if s.plan.kind == KindIn {
		return s.overlay.Listen(ctx, s.plan.listen)
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", s.plan.listen.String())
}

func (s *service) listenPacket(ctx context.Context) (net.PacketConn, error) {
	if s.plan.kind == KindIn {
		return s.overlay.ListenPacket(ctx, s.plan.listen)
	}
	var config net.ListenConfig
	return config.ListenPacket(ctx, "udp", s.plan.listen.String())
}

func (s *service) refused(err error) error {
	if s.plan.kind == KindProxy {
		return fmt.Errorf("open the proxy: %w; free the address or name another with --proxy", err)
	}
	return fmt.Errorf("forward %s %s %s to %s: %w; free the address or name another with --forward-%s",
		s.plan.kind, s.plan.network, s.plan.listen, s.plan.target, err, s.plan.kind)
}

// dial connects to where the listener leads.
func (s *service) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if s.plan.kind == KindOut {
		return s.overlay.Dial(ctx, s.plan.network, s.plan.target)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, s.plan.network, s.plan.target)
}

// close returns when nothing of the service runs any more.
func (s *service) close() {
	s.stop()
	s.open.close()
	s.running.Wait()
}

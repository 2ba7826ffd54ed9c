// Package server is the relay: STUN and TURN (RFC 8489, RFC 8656) over UDP,
// TCP, TLS and WebSocket for peers that cannot reach each other directly.
//
// The relay sees WireGuard packets and nothing inside them:
//
//	agent A ──UDP──> :3478 ┐                        ┌ :3478 <──TCP── agent B
//	                  gate ├─ pion/turn ─ pion/turn ┤ gate
//	                       └ relayed :40001 ─ relayed :40002 ┘
//
// A client shows a Credential that the control plane made from a secret which
// both know; the relay keeps no users and asks nobody.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/pion/turn/v3"

	"github.com/wattlenet/wattle/internal/proxied"
)

// DefaultQueues is more than a network card of 10 Gbit/s needs.
const DefaultQueues = 8

// samePortAttempts bounds the search for a port that is free for UDP and TCP,
// when the system may choose it.
const samePortAttempts = 16

// Config is what a relay needs to know.
type Config struct {
	// Secret is shared with the control plane; required.
	Secret Secret
	// Listen holds addresses such as ":3478", each served over UDP and TCP;
	// required. Port 0 lets the system choose one that is free for both.
	Listen []string
	// ListenUDP holds addresses such as ":443", served over UDP only: a second
	// port for networks that let few pass, and to learn from whether a NAT maps
	// by destination.
	ListenUDP []string
	// ListenTLS holds addresses such as ":443", which speak TURN over TLS and
	// over WebSocket. They need TLS.
	ListenTLS []string
	// TLS has the certificate for ListenTLS.
	TLS *tls.Config
	// TrustedProxies may stand before ListenTLS, and before whoever brings
	// connections to ServeHTTP: what bounds each address bounds those of their
	// clients. Nil trusts nobody.
	TrustedProxies proxied.Trusted
	// RelayAddress is the IPv4 address at which allocations are reached. Zero
	// takes the first listening address, or the address of the default route
	// when that is not a single one.
	RelayAddress netip.Addr
	// RelayPorts limits the ports of allocations. Zero lets the system choose.
	RelayPorts PortRange

	// AllowedPeerNetworks may be relayed to although they are private or the
	// relay's own network. The relay's own addresses are never allowed.
	AllowedPeerNetworks []netip.Prefix
	// AllowPrivatePeers admits every private network (RFC 1918) as a peer, for
	// a relay within a LAN.
	AllowPrivatePeers bool

	// Quotas bound what clients may hold and spend.
	Quotas Quotas
	// Queues is how many sockets share each UDP port, each with a reader of its
	// own; a client always meets the same one. Zero means one for each
	// processor, DefaultQueues at most.
	Queues int

	// Drain is how long clients may take to move to another relay when Run is
	// told to stop. Zero ends their allocations at once.
	Drain time.Duration

	// Logger is told when the relay starts and stops; required.
	Logger *slog.Logger
}

// A Server is a relay that listens.
type Server struct {
	logger   *slog.Logger
	patience time.Duration // Config.Drain
	gate     *gate
	ledger   *ledger
	stats    *counters
	sockets  *allocator
	addrs    []netip.AddrPort
	udp      []*datagramFront
	tcp      []*streamListener
	brought  *handover // connections that ServeStream and ServeHTTP bring
	doors    []*door
	proxies  proxied.Trusted
}

// New checks config and opens the listening sockets, so that their addresses
// are known before Run. It returns an error that names the address when one is
// in use or not on this host.
func New(config Config) (*Server, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	stats := &counters{}
	ledger := newLedger(config.Quotas, stats)
	s := &Server{
		logger:   config.Logger,
		patience: config.Drain,
		proxies:  slices.Clone(config.TrustedProxies),
		ledger:   ledger,
		stats:    stats,
		gate: &gate{
			secret: slices.Clone(config.Secret),
			ledger: ledger,
			budget: &budget{},
			nonces: newNonces(newNonceKey()),
			stats:  stats,
			destinations: &destinations{
				allowed:      slices.Clone(config.AllowedPeerNetworks),
				allowPrivate: config.AllowPrivatePeers,
				interfaces:   interfacePrefixes,
			},
		},
	}
	queues := cmp.Or(config.Queues, min(runtime.GOMAXPROCS(0), DefaultQueues))
	for _, address := range config.Listen {
		if err := s.listen(address, queues); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	for _, address := range config.ListenUDP {
		if err := s.listenUDP(address, queues); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if err := s.placeAllocations(config); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.brought = newHandover()
	s.tcp = append(s.tcp, newStreamListener(s.brought, s.gate))
	for _, address := range config.ListenTLS {
		if err := s.listenTLS(address, config.TLS); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Check reports what cannot work, without a look at this host.
func (c *Config) Check() error {
	switch {
	case len(c.Secret) == 0:
		return errors.New("relay: Secret is empty: without it nobody could be told apart")
	case len(c.Listen) == 0:
		return errors.New("relay: Listen is empty")
	case len(c.ListenTLS) > 0 && c.TLS == nil:
		return errors.New("relay: ListenTLS needs a certificate in TLS")
	case c.Logger == nil:
		return errors.New("relay: Logger is missing")
	case c.RelayAddress.IsValid() && (!c.RelayAddress.Unmap().Is4() || c.RelayAddress.IsUnspecified()):
		return fmt.Errorf("relay: RelayAddress %s is not a single IPv4 address", c.RelayAddress)
	case c.RelayPorts.Min > c.RelayPorts.Max || c.RelayPorts.Max != 0 && c.RelayPorts.Min == 0:
		return fmt.Errorf("relay: RelayPorts %s is not a range", c.RelayPorts)
	case c.Quotas.negative() || c.Queues < 0 || c.Drain < 0:
		return errors.New("relay: quotas, queues and the time to drain cannot be negative")
	}
	return nil
}

// listen opens one address over UDP and TCP.
func (s *Server) listen(address string, queues int) error {
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return fmt.Errorf("relay: listening address %q: %w", address, err)
	}
	attempts := 1
	if at.Port == 0 {
		attempts = samePortAttempts
	}
	for range attempts {
		var udp *net.UDPConn
		if udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Port: at.Port, Zone: at.Zone}); err != nil {
			return listenError("udp", at, err)
		}
		local := addrPort(udp.LocalAddr())
		var tcp *net.TCPListener
		if tcp, err = net.ListenTCP("tcp", &net.TCPAddr{IP: at.IP, Port: int(local.Port()), Zone: at.Zone}); err != nil {
			err = errors.Join(listenError("tcp", at, err), udp.Close())
			continue
		}
		s.tcp = append(s.tcp, newStreamListener(tcp, s.gate))
		s.addrs = append(s.addrs, local)
		return s.addQueues(udp, queues)
	}
	return err
}

// listenUDP opens one address over UDP only.
func (s *Server) listenUDP(address string, queues int) error {
	at, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return fmt.Errorf("relay: listening address %q: %w", address, err)
	}
	udp, err := net.ListenUDP("udp", at)
	if err != nil {
		return listenError("udp", &net.TCPAddr{IP: at.IP, Port: at.Port, Zone: at.Zone}, err)
	}
	return s.addQueues(udp, queues)
}

// addQueues reads udp from as many sockets as were asked for, where the
// system has that.
func (s *Server) addQueues(udp *net.UDPConn, queues int) error {
	sockets, err := openQueues(udp, queues)
	for _, socket := range sockets {
		front, failed := newDatagramFront(socket, s.gate)
		if failed != nil {
			err = errors.Join(err, failed, socket.Close())
			continue
		}
		s.udp = append(s.udp, front)
	}
	return err
}

func listenError(network string, at *net.TCPAddr, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("relay: %s port %d is in use: stop the program that holds it or listen on another port: %w", network, at.Port, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("relay: this host does not have the address %s: listen on one that it has, or on all with :%d: %w", at.IP, at.Port, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("relay: %s port %d may not be opened by this user: listen on a port above 1023 or grant CAP_NET_BIND_SERVICE: %w", network, at.Port, err)
	default:
		return fmt.Errorf("relay: listen on %s %s: %w", network, at, err)
	}
}

// placeAllocations finds out where allocations are bound and what clients are
// told.
func (s *Server) placeAllocations(config Config) error {
	public := config.RelayAddress.Unmap()
	if !public.IsValid() {
		public = s.addrs[0].Addr()
	}
	if !public.Is4() || public.IsUnspecified() {
		var err error
		if public, err = defaultRouteAddress(); err != nil {
			return fmt.Errorf("relay: find the address of allocations: %w: set RelayAddress", err)
		}
	}
	own, err := interfacePrefixes()
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	bind := netip.IPv4Unspecified()
	if slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == public }) {
		bind = public
	}
	s.gate.public = public
	s.sockets = &allocator{gate: s.gate, bind: bind, ports: config.RelayPorts}
	return nil
}

// defaultRouteAddress asks the kernel which address it would send from. No
// packet leaves.
func defaultRouteAddress() (netip.Addr, error) {
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9})
	if err != nil {
		return netip.Addr{}, err
	}
	return addrPort(conn.LocalAddr()).Addr(), conn.Close()
}

// Addrs returns the listening addresses, in the order of Config.Listen; each
// is open over UDP and TCP.
func (s *Server) Addrs() []netip.AddrPort {
	return slices.Clone(s.addrs)
}

// RelayAddress returns the address at which allocations are reached.
func (s *Server) RelayAddress() netip.Addr { return s.gate.public }

// Stats returns the counters.
func (s *Server) Stats() Stats { return s.stats.read() }

// Run serves until ctx is done, then ends all allocations and returns nil. It
// may be called once.
func (s *Server) Run(ctx context.Context) error {
	config := turn.ServerConfig{
		Realm:         Realm,
		LoggerFactory: pionLog{log: s.logger},
		InboundMTU:    maxMessage + 1,
		AuthHandler: func(username, _ string, _ net.Addr) ([]byte, bool) {
			return longTermKey(s.gate.secret, username), true // the gate has checked the expiry
		},
	}
	config.PacketConnConfigs = append(config.PacketConnConfigs, turn.PacketConnConfig{
		PacketConn: s.gate.nonces.inner, RelayAddressGenerator: s.sockets,
	})
	for _, front := range s.udp {
		config.PacketConnConfigs = append(config.PacketConnConfigs, turn.PacketConnConfig{
			PacketConn: front, RelayAddressGenerator: s.sockets,
		})
	}
	for _, listener := range s.tcp {
		config.ListenerConfigs = append(config.ListenerConfigs, turn.ListenerConfig{
			Listener: listener, RelayAddressGenerator: s.sockets,
		})
	}
	if _, err := turn.NewServer(config); err != nil {
		return errors.Join(fmt.Errorf("relay: start: %w", err), s.Close())
	}
	var doors sync.WaitGroup
	for _, d := range s.doors {
		doors.Go(d.serve)
	}
	s.logger.Info("relay listening", "addresses", s.Addrs(), "tls_addresses", s.TLSAddrs(), "relay_address", s.gate.public)
	<-ctx.Done()
	s.drain(s.patience)
	err := s.Close()
	doors.Wait()
	s.logger.Info("relay stopped", "allocations_made", s.stats.allocationsMade.Load())
	return err
}

// Close releases the sockets of a relay whose Run was not called. After Run
// it does nothing.
func (s *Server) Close() error {
	errs := []error{s.gate.nonces.inner.Close()} // who waits for a nonce waits no longer
	for _, d := range s.doors {
		errs = append(errs, d.close())
	}
	for _, front := range s.udp {
		errs = append(errs, ignoreClosed(front.Close()))
	}
	for _, listener := range s.tcp {
		errs = append(errs, ignoreClosed(listener.Close()))
		listener.running.Wait()
	}
	return errors.Join(append(errs, s.ledger.closeAll())...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

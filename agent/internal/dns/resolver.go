// Package dns answers for the names of the network on the machine's overlay address.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Port is the port of DNS (RFC 1035, section 4.2).
const Port = 53

// TTL is the life of every answer. Short, so that a machine that changed its
// address is found again within half a minute.
const TTL = 30 * time.Second

// A Network opens the sockets of the resolver: the host's, or the ones of the
// tunnel's own stack.
type Network interface {
	ListenPacket(ctx context.Context, addr netip.AddrPort) (net.PacketConn, error)
	Listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error)
}

// A Config is everything that the resolver answers, and where.
type Config struct {
	// Addresses are the overlay addresses of this machine; empty stops answering.
	Addresses []netip.Addr

	// Domain is the domain below which peers have their names, without a final dot.
	Domain string

	// Networks are the ranges for which reverse questions are answered.
	Networks []netip.Prefix

	// Zones are the domains whose names are answered besides those of peers. A peer wins over a zone for its name.
	Zones []Zone

	// Nameservers are asked for the names of others, which this resolver refuses until it forwards.
	Nameservers []Nameservers

	// Hosts are this machine and the peers that the map shows to it.
	Hosts []Host
}

// A Host is one name.
type Host struct {
	Name string // one label

	// Aliases are further labels of the same addresses. The reverse name is Name.
	Aliases []string

	IPv4 netip.Addr
	IPv6 netip.Addr
}

// Options are what a Resolver needs.
type Options struct {
	Logger  *slog.Logger // required
	Network Network      // required

	// Answered is called with every answer that holds addresses, before it
	// leaves; the answer waits for it. Many answers may leave at once. nil: nobody
	// wants to know.
	Answered func(ctx context.Context, a Answered)
}

// Answered is what a name turned out to be.
type Answered struct {
	// Name is the name that was asked for, in lower case without the final dot;
	// the answer may have got from there to Addrs by CNAMEs.
	Name  string
	Addrs []netip.Addr

	// TTL is for how long who asked may use the addresses.
	TTL time.Duration
}

// A Resolver answers questions about peers and zones and refuses all others.
type Resolver struct {
	logger   *slog.Logger
	network  Network
	answered func(ctx context.Context, a Answered)
	zone     atomic.Pointer[zone]

	mu      sync.Mutex // guards servers
	servers []*server
}

// New makes a resolver that knows nothing until Set.
func New(o Options) (*Resolver, error) {
	if o.Logger == nil || o.Network == nil {
		return nil, errors.New("dns: logger and network are required")
	}
	r := &Resolver{logger: o.Logger, network: o.Network, answered: o.Answered}
	r.zone.Store(newZone(Config{}))
	return r, nil
}

// Set answers with the names of c from now on. When an address cannot be bound
// the names are still known to Lookup, and the error says which address failed
// and why; a later Set tries again.
func (r *Resolver) Set(ctx context.Context, c Config) error {
	r.zone.Store(newZone(c))
	r.mu.Lock()
	defer r.mu.Unlock()

	var faults []error
	kept := r.servers[:0:0]
	for _, s := range r.servers {
		if slices.Contains(c.Addresses, s.addr.Addr()) {
			kept = append(kept, s)
			continue
		}
		s.close()
	}
	r.servers = kept
	for _, addr := range c.Addresses {
		if slices.ContainsFunc(r.servers, func(s *server) bool { return s.addr.Addr() == addr }) {
			continue
		}
		s, err := r.serve(ctx, netip.AddrPortFrom(addr, Port))
		if err != nil {
			faults = append(faults, err)
			continue
		}
		r.servers = append(r.servers, s)
	}
	return errors.Join(faults...)
}

// Close stops answering and returns when nothing of the resolver runs any more.
func (r *Resolver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.servers {
		s.close()
	}
	r.servers = nil
	return nil
}

// Lookup returns the addresses of a name as the resolver would answer it: a
// bare label or a full name, in any case, with or without a final dot.
func (r *Resolver) Lookup(name string) (Host, bool) {
	return r.zone.Load().find(strings.ToLower(strings.TrimSuffix(name, ".")))
}

// Answer answers a question as on the wire, whatever its size.
func (r *Resolver) Answer(ctx context.Context, question *dns.Msg) *dns.Msg {
	answer := r.zone.Load().answer(question)
	r.tell(ctx, answer)
	return answer
}

// tell calls Answered if the answer holds addresses.
func (r *Resolver) tell(ctx context.Context, answer *dns.Msg) {
	if r.answered == nil || len(answer.Question) != 1 {
		return
	}
	told := Answered{Name: canonical(answer.Question[0].Name)}
	for _, record := range answer.Answer {
		ttl := time.Duration(record.Header().Ttl) * time.Second
		if told.TTL == 0 || ttl < told.TTL {
			told.TTL = ttl
		}
		var raw net.IP
		switch record := record.(type) {
		case *dns.A:
			raw = record.A
		case *dns.AAAA:
			raw = record.AAAA
		}
		if addr, ok := netip.AddrFromSlice(raw); ok {
			told.Addrs = append(told.Addrs, addr.Unmap())
		}
	}
	if len(told.Addrs) > 0 {
		r.answered(ctx, told)
	}
}

// server is the resolver at one address.
type server struct {
	addr    netip.AddrPort
	parts   []*dns.Server
	running sync.WaitGroup
}

func (r *Resolver) serve(ctx context.Context, addr netip.AddrPort) (*server, error) {
	packets, err := r.network.ListenPacket(ctx, addr)
	if err != nil {
		return nil, bindError(addr, err)
	}
	streams, err := r.network.Listen(ctx, addr)
	if err != nil {
		return nil, errors.Join(bindError(addr, err), packets.Close())
	}
	handler := dns.HandlerFunc(r.handle)
	s := &server{addr: addr, parts: []*dns.Server{
		{PacketConn: packets, Handler: handler},
		{Listener: streams, Handler: handler},
	}}
	for _, part := range s.parts {
		started := make(chan struct{})
		part.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		s.running.Go(func() { ended <- part.ActivateAndServe() })
		select {
		case <-started: // only now does its Shutdown work
		case err := <-ended:
			s.close()
			return nil, errors.Join(bindError(addr, err), packets.Close(), streams.Close())
		}
	}
	r.logger.Debug("resolver answers", "address", addr.String())
	return s, nil
}

func bindError(addr netip.AddrPort, err error) error {
	return fmt.Errorf("answer DNS on %s: %w; names still work in `wattle ping`", addr, err)
}

func (s *server) close() {
	for _, part := range s.parts {
		// Shutdown fails only for a server that does not run, which is what we want.
		_ = part.Shutdown()
	}
	s.running.Wait()
}

func (r *Resolver) handle(w dns.ResponseWriter, question *dns.Msg) {
	answer := r.Answer(context.Background(), question)
	if _, tcp := w.RemoteAddr().(*net.TCPAddr); !tcp {
		size := dns.MinMsgSize
		if opt := question.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		answer.Truncate(size)
	}
	if err := w.WriteMsg(answer); err != nil {
		r.logger.Debug("answer not sent", "error", err)
	}
}

// Package dns answers for the names of the network on the machine's overlay address.
package dns

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/wattlenet/wattle/internal/table"
)

// Port is the port of DNS (RFC 1035, section 4.2).
const Port = 53

// TTL is the life of every answer. Short, so that a machine that changed its
// address is found again within half a minute.
const TTL = 30 * time.Second

// maxConns is how many TCP connections are served at once, for each address; see
// sharing for the next one.
const maxConns = 64

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

	// Elsewhere answers this machine at another address of the loopback, or at
	// another port there, when another program has port 53 of all Addresses.
	Elsewhere bool

	// Domain is the domain below which peers have their names, without a final dot.
	Domain string

	// Networks are the ranges for which reverse questions are answered.
	Networks []netip.Prefix

	// Zones are the domains whose names are answered besides those of peers. A peer wins over a zone for its name.
	Zones []Zone

	// Nameservers are asked for the names of others: those of the longest domain that holds the name. A name of which
	// none has a domain is asked of the servers that the machine had before.
	Nameservers []Nameservers

	// Shared are domains for whose names peers may ask as well, because this machine leads to them. All other names of
	// others are answered to this machine only.
	Shared []string

	// Hosts are this machine and the peers that the map shows to it, by each of
	// their names in lower case.
	Hosts table.Table[string, Host]
}

// A Host is a machine that has a name.
type Host struct {
	// Name is one label, the answer to reverse questions. Hosts may have the host
	// under other labels as well.
	Name string

	IPv4 netip.Addr
	IPv6 netip.Addr
}

// Options are what a Resolver needs.
type Options struct {
	Logger  *slog.Logger // required
	Network Network      // required

	// Inside reaches the servers of nameserver groups as the programs of this
	// machine do: such a server may be a peer, or lie behind one. nil: nothing is
	// asked of them.
	Inside Dial

	// Outside reaches the servers that the machine had before, and no route of the
	// network leads there. nil: nothing is asked of them.
	Outside Dial

	// Former returns the servers that the machine had before; nil: none.
	Former func() []Server

	// TLS is how certificates of servers are checked; nil: by the authorities of
	// the system.
	TLS *tls.Config

	// Answered is called with every answer that holds addresses, before it
	// leaves; the answer waits for it. Many answers may leave at once. nil: nobody
	// wants to know.
	Answered func(ctx context.Context, a Answered)

	// Lost is called when a socket that was answered at has ended by itself, such as
	// one that the system has closed: the next Set opens it again. It must not call
	// the resolver. nil: nobody wants to know.
	Lost func()
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

// A Resolver answers questions about peers and zones itself, and asks others for
// the rest.
type Resolver struct {
	logger   *slog.Logger
	network  Network
	answered func(ctx context.Context, a Answered)
	lost     func()
	former   func() []Server
	inside   *forwarder
	outside  *forwarder
	zone     atomic.Pointer[zone]

	outsiders sync.WaitGroup // of DialOutside

	mu      sync.Mutex // guards all below
	closed  bool
	servers []*server
	groups  []Nameservers // of the last Set
	note    string        // what is wrong with servers
}

// New makes a resolver that knows nothing until Set.
func New(o Options) (*Resolver, error) {
	if o.Logger == nil || o.Network == nil {
		return nil, errors.New("dns: logger and network are required")
	}
	r := &Resolver{
		logger: o.Logger, network: o.Network, answered: o.Answered, lost: o.Lost, former: o.Former,
		inside: newForwarder(newExchanger(o.Inside, o.TLS)), outside: newForwarder(newExchanger(o.Outside, o.TLS)),
	}
	if r.former == nil {
		r.former = func() []Server { return nil }
	}
	if r.lost == nil {
		r.lost = func() {}
	}
	r.zone.Store(newZone(Config{}, &zone{}))
	return r, nil
}

// Set answers with the names of c from now on. When no address can be bound the
// names are still known to Lookup, and the error says why; that some cannot is
// told by Serving. A later Set tries again.
func (r *Resolver) Set(ctx context.Context, c Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.zone.Store(newZone(c, r.zone.Load()))
	if !slices.EqualFunc(r.groups, c.Nameservers, sameNameservers) {
		r.groups = c.Nameservers
		r.inside.forget()
	}

	return r.listen(ctx, c)
}

func sameNameservers(a, b Nameservers) bool {
	return slices.Equal(a.Servers, b.Servers) && slices.Equal(a.Domains, b.Domains)
}

// NetworkChanged forgets what other servers said and which of them failed: they
// may be others now, or say something else.
func (r *Resolver) NetworkChanged() {
	r.inside.forget()
	r.outside.forget()
}

// Close stops answering and returns when nothing of the resolver runs any more.
// It may be called once.
func (r *Resolver) Close() error {
	r.inside.end()
	r.outside.end()
	r.mu.Lock()
	r.closed = true
	closeAll(r.servers)
	r.servers = nil
	r.mu.Unlock()
	r.outsiders.Wait()
	r.inside.exchanger.close() // now nobody gives a connection back any more
	r.outside.exchanger.close()
	return nil
}

// Lookup returns the addresses of a name as the resolver would answer it: a
// bare label or a full name, in any case, with or without a final dot.
func (r *Resolver) Lookup(name string) (Host, bool) {
	return r.zone.Load().find(strings.ToLower(strings.TrimSuffix(name, ".")))
}

// Answer answers a question of this machine as on the wire, whatever its size.
func (r *Resolver) Answer(ctx context.Context, question *dns.Msg) *dns.Msg {
	return r.answer(ctx, question, netip.IPv6Loopback())
}

// answer answers a question that comes from an address.
func (r *Resolver) answer(ctx context.Context, question *dns.Msg, from netip.Addr) *dns.Msg {
	z := r.zone.Load()
	m, rest := z.answer(question)
	switch {
	case rest == "":
	case z.serves(from, rest):
		c := completion{r: r, zone: z, from: from, question: question, m: m}
		c.run(ctx, rest)
	case m.Rcode == dns.RcodeRefused:
		explain(m, dns.ExtendedErrorCodeProhibited, "names of others are answered to the machine itself only")
	}
	r.tell(ctx, m)
	return m
}

// ask asks the servers that are for the name.
func (r *Resolver) ask(ctx context.Context, z *zone, question *dns.Msg) (*dns.Msg, error) {
	if servers, found := z.guide.find(canonical(question.Question[0].Name)); found {
		if len(servers) == 0 || r.inside.exchanger.dial == nil {
			return nil, errors.New("the name servers for this name are this machine itself")
		}
		return r.inside.find(ctx, servers, question)
	}
	return r.outside.find(ctx, r.others(), question)
}

// tell calls Answered if the answer holds addresses.
func (r *Resolver) tell(ctx context.Context, answer *dns.Msg) {
	if r.answered == nil || len(answer.Question) != 1 {
		return
	}
	told := Answered{Name: canonical(answer.Question[0].Name), TTL: seconds(shortest(answer.Answer))}
	for _, record := range answer.Answer {
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
	closing atomic.Bool
	dead    atomic.Bool // a part has ended by itself
}

// serve answers at an address.
func (r *Resolver) serve(ctx context.Context, addr netip.AddrPort) (*server, *bindError) {
	failed := func(err error) *bindError { return &bindError{At: addr, Cause: rootCause(err)} }
	packets, err := r.network.ListenPacket(ctx, addr)
	if err != nil {
		return nil, failed(err)
	}
	streams, err := r.network.Listen(ctx, addr)
	if err != nil {
		return nil, failed(errors.Join(err, packets.Close()))
	}
	handler := dns.HandlerFunc(r.handle)
	s := &server{addr: addr, parts: []*dns.Server{
		{PacketConn: packets, Handler: handler, UDPSize: maxDatagram},
		{Listener: share(streams, maxConns), Handler: handler},
	}}
	for _, part := range s.parts {
		started, ended := make(chan struct{}), make(chan error, 1)
		part.NotifyStartedFunc = func() { close(started) }
		s.running.Go(func() {
			err := part.ActivateAndServe()
			ended <- err
			select {
			case <-started:
				r.ended(s, err)
			default: // it is told by serve
			}
		})
		select {
		case <-started: // only now does its Shutdown work
		case err := <-ended:
			s.close()
			return nil, failed(errors.Join(err, packets.Close(), streams.Close()))
		}
	}
	r.logger.Debug("resolver answers", "address", addr.String())
	return s, nil
}

// ended notices a part of a server that has ended without having been told to.
func (r *Resolver) ended(s *server, err error) {
	if s.closing.Load() || s.dead.Swap(true) {
		return
	}
	r.logger.Warn("resolver answers no more, and listens again", "address", s.addr.String(), "error", err)
	r.lost()
}

// rootCause leaves out the address, which net says again.
func rootCause(err error) error {
	if failed, ok := errors.AsType[*os.SyscallError](err); ok {
		return failed.Err
	}
	return err
}

func (s *server) close() {
	s.closing.Store(true)
	for _, part := range s.parts {
		// Shutdown fails only for a server that does not run, which is what we want.
		_ = part.Shutdown()
	}
	s.running.Wait()
}

func (r *Resolver) handle(w dns.ResponseWriter, question *dns.Msg) {
	var from netip.Addr
	if addr, err := netip.ParseAddrPort(w.RemoteAddr().String()); err == nil {
		from = addr.Addr().Unmap()
	}
	answer := r.answer(context.Background(), question, from)
	if _, tcp := w.RemoteAddr().(*net.TCPAddr); !tcp {
		size := dns.MinMsgSize
		if opt := question.IsEdns0(); opt != nil {
			size = max(size, min(int(opt.UDPSize()), udpSize))
		}
		answer.Truncate(size)
	}
	if err := w.WriteMsg(answer); err != nil {
		r.logger.Debug("answer not sent", "error", err)
	}
}

package netcheck

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// seen is what one server said of one socket of this machine.
type seen struct {
	server netip.AddrPort
	answer answer
}

// family asks the servers over one version of IP, all from one socket.
func (c Config) family(ctx context.Context, network string, targets []target) (Family, NAT) {
	nat := NAT{Mapping: Unknown, Filtering: Unknown}
	four := network == "udp4"
	var servers []netip.AddrPort
	for _, t := range targets {
		if addr, ok := t.first(four); ok && !slices.Contains(servers, addr) {
			servers = append(servers, addr)
		}
	}
	family := Family{Address: ownAddress(network, servers)}
	if len(servers) == 0 || family.Address == "" {
		return family, nat
	}
	conn, err := c.listen(ctx, network)
	if err != nil {
		return family, nat
	}
	k := newClient(conn)
	defer k.close()
	answers := k.askAll(ctx, servers)
	if len(answers) == 0 {
		return family, nat
	}
	family.UDP, family.Mapped = true, answers[0].answer.mapped.String()
	local, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	own := netip.AddrPortFrom(netip.MustParseAddr(family.Address), local.Port())
	var parts sync.WaitGroup
	parts.Go(func() { family.MTU = c.pathMTU(ctx, network, answers[0].server) })
	parts.Go(func() { nat.Hairpin = c.hairpin(ctx, network, k, answers[0].answer.mapped) })
	parts.Go(func() { nat.Filtering = c.filtering(ctx, network, answers) })
	nat.PreservesPort = answers[0].answer.mapped.Port() == local.Port()
	nat.Mapping = k.mapping(ctx, own, answers)
	parts.Wait()
	nat.Hairpin = nat.Hairpin && nat.Mapping != None
	return family, nat
}

// documentation is an address that nobody has (RFC 5737, RFC 3849); connecting a
// socket to it sends nothing and tells which way out there is.
var documentation = map[string]string{"udp4": "192.0.2.1:9", "udp6": "[2001:db8::1]:9"}

// ownAddress is this machine's address towards the servers, or the way out.
func ownAddress(network string, servers []netip.AddrPort) string {
	to := documentation[network]
	if len(servers) > 0 {
		to = servers[0].String()
	}
	conn, err := net.Dial(network, to) //nolint:noctx // connecting a datagram socket waits for nothing
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }() // nothing was sent
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return ""
	}
	return local.Addr().Unmap().String()
}

// askAll asks all servers at once and returns what they said, in their order.
func (k *client) askAll(ctx context.Context, servers []netip.AddrPort) []seen {
	answers := make([]seen, len(servers))
	var asking sync.WaitGroup
	for i, server := range servers {
		asking.Go(func() {
			if a, err := k.ask(ctx, server); err == nil && a.mapped.IsValid() {
				answers[i] = seen{server, a}
			}
		})
	}
	asking.Wait()
	return slices.DeleteFunc(answers, func(s seen) bool { return !s.server.IsValid() })
}

// mapping compares what servers at other addresses and ports say of one socket
// (RFC 5780, section 4.3).
func (k *client) mapping(ctx context.Context, own netip.AddrPort, answers []seen) string {
	if answers[0].answer.mapped == own {
		return None
	}
	if other := answers[0].answer.other; other.IsValid() {
		// A server with a second address: ask there, at both ports.
		first := answers[0].server
		answers = append(answers, k.askAll(ctx, []netip.AddrPort{
			netip.AddrPortFrom(other.Addr(), first.Port()), netip.AddrPortFrom(first.Addr(), other.Port()),
		})...)
	}
	return compare(answers)
}

func compare(answers []seen) string {
	first := answers[0]
	ports, addresses := Unknown, Unknown // by what differs from the first server
	for _, s := range answers[1:] {
		same := s.answer.mapped == first.answer.mapped
		switch {
		case s.server.Addr() == first.server.Addr() && !same:
			return AddressAndPortDependent
		case s.server.Addr() == first.server.Addr():
			ports = EndpointIndependent
		case !same:
			addresses = AddressDependent
		case addresses == Unknown:
			addresses = EndpointIndependent
		}
	}
	if addresses == AddressDependent && ports == Unknown {
		return AddressAndPortDependent // the usual kind, unless a second port shows otherwise
	}
	return addresses
}

// filtering asks a server with a second address to answer from there (RFC 5780,
// section 4.4), on a fresh socket that has asked nobody else.
func (c Config) filtering(ctx context.Context, network string, answers []seen) string {
	at := slices.IndexFunc(answers, func(s seen) bool { return s.answer.other.IsValid() })
	if at < 0 {
		return Unknown
	}
	conn, err := c.listen(ctx, network)
	if err != nil {
		return Unknown
	}
	k := newClient(conn)
	defer k.close()
	server := answers[at].server
	if _, err := k.ask(ctx, server); err != nil {
		return Unknown
	}
	if _, err := k.ask(ctx, server, change(changeIP|changePort)); err == nil {
		return EndpointIndependent
	}
	if _, err := k.ask(ctx, server, change(changePort)); err == nil {
		return AddressDependent
	}
	return AddressAndPortDependent
}

// hairpin sends from a second socket to the mapped address of the first.
func (c Config) hairpin(ctx context.Context, network string, k *client, mapped netip.AddrPort) bool {
	conn, err := c.listen(ctx, network)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }() // only sent on
	return k.hears(ctx, conn, mapped)
}

// servers measures each server over UDP and TCP.
func (c Config) servers(ctx context.Context, targets []target) []Answer {
	list := make([]Answer, len(targets))
	var asking sync.WaitGroup
	for i, t := range targets {
		asking.Go(func() { list[i] = c.server(ctx, t) })
	}
	asking.Wait()
	return list
}

func (c Config) server(ctx context.Context, t target) Answer {
	a := Answer{Host: t.server.Host, Relay: t.server.Relay, Region: t.server.Region}
	if t.err != nil {
		a.Error = t.err.Error()
		return a
	}
	var parts sync.WaitGroup
	parts.Go(func() {
		if rtt, ok := c.roundTrip(ctx, t); ok {
			a.UDP, a.RTTMillis = true, millis(rtt)
		}
	})
	var tcpError error
	parts.Go(func() {
		limited, cancel := context.WithTimeout(ctx, answerLimit)
		defer cancel()
		dialer := net.Dialer{Control: c.Control}
		began := time.Now()
		conn, err := dialer.DialContext(limited, "tcp", t.server.Host)
		if tcpError = err; err == nil {
			a.TCP, a.TCPMillis = true, millis(time.Since(began))
			_ = conn.Close() // nothing was sent
		}
	})
	parts.Wait()
	if !a.UDP && !a.TCP {
		a.Error = errNoAnswer.Error() + ", and TCP fails: " + tcpError.Error()
	} else if !a.UDP {
		a.Error = errNoAnswer.Error()
	}
	return a
}

// roundTrip is the shortest of the addresses that a server has.
func (c Config) roundTrip(ctx context.Context, t target) (best time.Duration, ok bool) {
	for _, network := range []string{"udp4", "udp6"} {
		server, has := t.first(network == "udp4")
		if !has {
			continue
		}
		conn, err := c.listen(ctx, network)
		if err != nil {
			continue
		}
		k := newClient(conn)
		if a, err := k.ask(ctx, server); err == nil && (!ok || a.rtt < best) {
			best, ok = a.rtt, true
		}
		k.close()
	}
	return best, ok
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

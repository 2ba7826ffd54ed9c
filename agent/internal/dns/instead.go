package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// otherPort is the port for who can be told of ports, when 53 is another
// program's at every address. No service is registered for it.
const otherPort = 5387

// instead are the places where this machine is answered when another program has
// port 53 of its own addresses. First other addresses of the loopback, for those
// who know no ports; several, since a host may have several agents.
var instead = func() (list []netip.AddrPort) {
	for _, port := range []uint16{Port, otherPort} {
		for last := byte(53); last < 57; last++ {
			list = append(list, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 87, last}), port))
		}
	}
	return list
}()

// Serving tells where the programs of this machine are answered, and what is not
// as it should be about that: empty when all is well.
func (r *Resolver) Serving() (at []netip.AddrPort, note string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.servers {
		at = append(at, s.addr)
	}
	return at, r.note
}

// listen answers at the addresses of c, or elsewhere when none of them can be
// bound. The caller holds mu.
func (r *Resolver) listen(ctx context.Context, c Config) error {
	var kept, elsewhere []*server
	for _, s := range r.servers {
		switch {
		case s.dead.Load():
			s.close()
		case slices.Contains(c.Addresses, s.addr.Addr()):
			kept = append(kept, s)
		case c.Elsewhere && slices.Contains(instead, s.addr):
			elsewhere = append(elsewhere, s)
		default:
			s.close()
		}
	}
	r.servers, r.note = kept, ""
	var faults []error
	var busy []*bindError
	for _, addr := range c.Addresses {
		if slices.ContainsFunc(r.servers, func(s *server) bool { return s.addr.Addr() == addr }) {
			continue
		}
		s, err := r.serve(ctx, netip.AddrPortFrom(addr, Port))
		switch {
		case err == nil:
			r.servers = append(r.servers, s)
		case err.final(): // trying again at once does not help
			busy = append(busy, err)
		default:
			faults = append(faults, err)
		}
	}
	if len(r.servers) > 0 || len(busy) == 0 || !c.Elsewhere {
		closeAll(elsewhere)
		if len(busy) > 0 {
			r.note = unanswered(busy)
		}
		if len(r.servers) == 0 && len(busy) > 0 {
			faults = append(faults, fmt.Errorf("%s; names still work in `wattle ping`", r.note))
			r.note = ""
		}
		return errors.Join(faults...)
	}
	if r.servers = elsewhere; len(elsewhere) == 0 {
		s, err := r.serveInstead(ctx)
		if err != nil {
			return errors.Join(append(faults, fmt.Errorf("%s; nor elsewhere: %w", unanswered(busy), err))...)
		}
		r.servers = []*server{s}
	}
	r.note = fmt.Sprintf("%s; this machine asks at %s meanwhile", unanswered(busy), r.servers[0].addr)
	if len(c.Shared) > 0 {
		r.note += ", and machines that ask this one for names behind it get no answer"
	}
	return errors.Join(faults...)
}

// A bindError tells why there is no answer at an address.
type bindError struct {
	At    netip.AddrPort
	Cause error
}

func (e *bindError) Error() string { return fmt.Sprintf("answer DNS on %s: %v", e.At, e.Cause) }

// Unwrap returns the cause.
func (e *bindError) Unwrap() error { return e.Cause }

// final reports whether another program has the port, or we may not have it.
func (e *bindError) final() bool {
	return errors.Is(e.Cause, syscall.EADDRINUSE) || errors.Is(e.Cause, syscall.EACCES)
}

// serveInstead answers at the first place that is free.
func (r *Resolver) serveInstead(ctx context.Context) (*server, error) {
	var faults []error
	for _, at := range instead {
		s, err := r.serve(ctx, at)
		if err == nil {
			return s, nil
		}
		faults = append(faults, err)
	}
	return nil, errors.Join(faults...)
}

func closeAll(servers []*server) {
	for _, s := range servers {
		s.close()
	}
}

// unanswered names the addresses at which another program answers, or that may
// not be bound.
func unanswered(busy []*bindError) string {
	places := make([]string, 0, len(busy))
	for _, b := range busy {
		places = append(places, b.At.String())
	}
	return fmt.Sprintf("DNS is not answered on %s: %v (`ss -lnp sport = :%d` names the program that is)", strings.Join(places, " and "), busy[0].Cause, busy[0].At.Port())
}

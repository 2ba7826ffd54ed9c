//go:build linux

package lab_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// A street is a host behind routers, and two hosts outside with two sockets
// each: what a discovery of NAT behaviour needs (RFC 5780, section 4).
type street struct {
	inside             *lab.Host
	near, other, third socket // one host with two ports, and another host
}

func newStreet(t *testing.T, kinds ...lab.NAT) street {
	t.Helper()
	l := lab.New(t)
	network := l.Internet()
	for i, kind := range kinds {
		network = router(t, l, []string{"outer", "inner"}[i], kind, network)
	}
	one, two := host(t, l, "one", l.Internet()), host(t, l, "two", l.Internet())
	return street{
		inside: host(t, l, "inside", network),
		near:   listen(t, one), other: listen(t, one), third: listen(t, two),
	}
}

// mapping sends from one socket to three others and reports on which of them
// the mapped address depends (RFC 4787, section 4.1).
func (s street) mapping(t *testing.T) string {
	t.Helper()
	a := listen(t, s.inside)
	first, second, third := a.reach(s.near), a.reach(s.other), a.reach(s.third)
	if again := a.reach(s.near); again != first {
		t.Errorf("the mapping changed from %s to %s between two packets", first, again)
	}
	switch {
	case first == second && second == third:
		return "endpoint-independent"
	case first == second:
		return "address-dependent"
	case second == third || first == third:
		return "strange"
	default:
		return "address and port-dependent"
	}
}

// filtering opens a mapping towards one socket and reports which others may
// answer to it (RFC 4787, section 5).
func (s street) filtering(t *testing.T) string {
	t.Helper()
	a := listen(t, s.inside)
	mapped := a.reach(s.near)
	s.other.send("from another port", mapped)
	s.third.send("from another host", mapped)
	// Two more exchanges: what was sent before has arrived or never will.
	came := map[string]bool{}
	for range 2 {
		a.reach(s.near)
		s.near.send("answer", mapped)
		for text := ""; text != "answer"; {
			var ok bool
			if text, _, ok = a.receive(arrival); !ok {
				t.Fatal("no answer through the mapping")
			}
			came[text] = true
		}
	}
	switch port, address := came["from another port"], came["from another host"]; {
	case port && address:
		return "endpoint-independent"
	case port:
		return "address-dependent"
	case address:
		return "strange"
	default:
		return "address and port-dependent"
	}
}

func TestKindsOfNAT(t *testing.T) {
	for _, test := range []struct {
		kind               lab.NAT
		mapping, filtering string
	}{
		{lab.None, "endpoint-independent", "endpoint-independent"},
		{lab.FullCone, "endpoint-independent", "endpoint-independent"},
		{lab.AddressRestricted, "endpoint-independent", "address-dependent"},
		{lab.PortRestricted, "endpoint-independent", "address and port-dependent"},
		{lab.Symmetric, "address and port-dependent", "address and port-dependent"},
	} {
		t.Run(string(test.kind), func(t *testing.T) {
			s := newStreet(t, test.kind)
			if got := s.mapping(t); got != test.mapping {
				t.Errorf("mapping is %s, want %s", got, test.mapping)
			}
			if got := s.filtering(t); got != test.filtering {
				t.Errorf("filtering is %s, want %s", got, test.filtering)
			}
		})
	}
}

// A stranger's packet before a mapping exists is lost and leaves no trace: the
// mapping that is made afterwards is as good as any.
func TestUnaskedPacketDoesNotSpoilMapping(t *testing.T) {
	s := newStreet(t, lab.PortRestricted)
	a := listen(t, s.inside)
	// The NAT keeps ports, so the address can be foretold.
	mapped := listen(t, s.inside).reach(s.near)
	outside := netip.AddrPortFrom(mapped.Addr(), a.addr().Port())
	s.near.send("too early", outside)
	if from := a.reach(s.near); from != outside {
		t.Errorf("the mapping is %s, want %s", from, outside)
	}
	if text, _, ok := a.receive(time.Nanosecond); ok {
		t.Errorf("%q came before anything was sent", text)
	}
}

func TestHostsBehindOneNATAreNeighbours(t *testing.T) {
	l := lab.New(t)
	home := router(t, l, "home", lab.PortRestricted, l.Internet())
	a, b := listen(t, host(t, l, "a", home)), listen(t, host(t, l, "b", home))
	if from := a.reach(b); from != a.addr() {
		t.Errorf("a neighbour's packet came from %s, want %s", from, a.addr())
	}
}

func TestTranslatedHostsCannotBeReachedFirst(t *testing.T) {
	for _, kind := range lab.Kinds[1:] {
		t.Run(string(kind), func(t *testing.T) {
			s := newStreet(t, kind)
			a := listen(t, s.inside)
			mapped := listen(t, s.inside).reach(s.near)
			s.third.send("unasked", netip.AddrPortFrom(mapped.Addr(), a.addr().Port()))
			s.filtering(t) // exchanges packets over the same path
			if text, _, ok := a.receive(time.Nanosecond); ok {
				t.Errorf("%q reached a socket that has sent nothing", text)
			}
		})
	}
}

func TestDoubleNAT(t *testing.T) {
	for _, test := range []struct {
		outer, inner       lab.NAT
		mapping, filtering string
	}{
		{lab.FullCone, lab.PortRestricted, "endpoint-independent", "address and port-dependent"},
		{lab.FullCone, lab.FullCone, "endpoint-independent", "endpoint-independent"},
		{lab.Symmetric, lab.FullCone, "address and port-dependent", "address and port-dependent"},
	} {
		t.Run(string(test.inner)+" in "+string(test.outer), func(t *testing.T) {
			s := newStreet(t, test.outer, test.inner)
			if got := s.mapping(t); got != test.mapping {
				t.Errorf("mapping is %s, want %s", got, test.mapping)
			}
			if got := s.filtering(t); got != test.filtering {
				t.Errorf("filtering is %s, want %s", got, test.filtering)
			}
		})
	}
}

package lab

import "fmt"

// A Side is what stands between a machine and the internet.
type Side struct {
	// Name is a word for tables and file names.
	Name string
	// Mapping and Filtering are those of RFC 4787, as the internet sees them.
	Mapping, Filtering Dependence
	// UDP is false where no datagram passes.
	UDP bool
	// Build makes the routers, whose names begin with prefix, and returns the network of the machine.
	Build func(l *Lab, prefix string) (Network, error)
}

// A Dependence says on what a mapping or a filter depends.
type Dependence int

// The values of RFC 4787, sections 4.1 and 5, the easiest first.
const (
	Independent Dependence = iota // endpoint-independent
	OnAddress                     // address-dependent
	OnPort                        // address and port-dependent
)

// Sides lists every kind of access that the lab can build.
var Sides = []Side{
	{"public", Independent, Independent, true, func(l *Lab, _ string) (Network, error) { return l.Internet(), nil }},
	side(FullCone, Independent, Independent),
	side(AddressRestricted, Independent, OnAddress),
	side(PortRestricted, Independent, OnPort),
	side(Symmetric, OnPort, OnPort),
	{"double-nat", Independent, OnPort, true, func(l *Lab, prefix string) (Network, error) {
		return chain(l, prefix, PortRestricted, PortRestricted)
	}},
	{"carrier-nat", OnPort, OnPort, true, func(l *Lab, prefix string) (Network, error) {
		return chain(l, prefix, Symmetric, FullCone)
	}},
	{"no-udp", Independent, OnPort, false, func(l *Lab, prefix string) (Network, error) {
		r, err := l.Router(prefix, PortRestricted, l.Internet())
		if err != nil {
			return nil, err
		}
		return r, r.Block("udp")
	}},
}

func side(kind NAT, mapping, filtering Dependence) Side {
	return Side{string(kind), mapping, filtering, true, func(l *Lab, prefix string) (Network, error) { return chain(l, prefix, kind) }}
}

// chain puts routers in a row, the one nearest to the internet first.
func chain(l *Lab, prefix string, kinds ...NAT) (network Network, err error) {
	network = l.Internet()
	for i, kind := range kinds {
		if network, err = l.Router(fmt.Sprintf("%s%d", prefix, i), kind, network); err != nil {
			return nil, err
		}
	}
	return network, nil
}

// Direct reports whether two machines at these sides can send datagrams to
// each other: where one side's mapping changes with the destination, the other
// side cannot foretell its port and has to let any port of the address in
// (RFC 5128, section 3.3).
func Direct(a, b Side) bool {
	foretold := func(of, by Side) bool { return of.Mapping == Independent || by.Filtering < OnPort }
	return a.UDP && b.UDP && foretold(a, b) && foretold(b, a)
}

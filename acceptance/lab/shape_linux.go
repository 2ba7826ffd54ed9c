package lab

import "errors"

// A Shape is two machines whose ways depend on each other, or on more than the
// NAT between each and the internet.
type Shape struct {
	// Name is a word for tables and file names, Text what a reader is told.
	Name, Text string
	// Internet is what the control plane and its relay have.
	Internet Stack
	// Direct says that datagrams can pass between the machines.
	Direct bool
	// Build makes the two machines.
	Build func(l *Lab, a, b string) (ha, hb *Host, err error)
}

// Shapes lists what the pairs of Sides do not show.
var Shapes = []Shape{
	{"one-lan", "both in one LAN", IPv4, true, func(l *Lab, a, b string) (*Host, *Host, error) {
		home, err := l.Router("home", PortRestricted, l.Internet())
		return both(l, err, a, b, home, home)
	}},
	{"one-carrier-hairpin", "two homes behind one carrier's NAT that leads its customers to each other", IPv4, true, neighbours(Hairpin)},
	{"one-carrier", "two homes behind one carrier's NAT that does not", IPv4, false, neighbours(PortRestricted)},
	{"carrier-grade", "a carrier's NAT with 100.64.0.0/10 inside, around the NAT at home", IPv4, true, func(l *Lab, a, b string) (*Host, *Host, error) {
		network, err := chain(l, "home", CarrierGrade, PortRestricted)
		office, err2 := l.Router("office", PortRestricted, l.Internet())
		return both(l, errors.Join(err, err2), a, b, network, office)
	}},
	{"gateway", "two symmetric NATs, one of which forwards ports on request (PCP)", IPv4, true, func(l *Lab, a, b string) (*Host, *Host, error) {
		home, err := l.Router("home", Symmetric, l.Internet())
		office, err2 := l.Router("office", Symmetric, l.Internet())
		if err = errors.Join(err, err2); err == nil {
			_, err = home.Gateway("pcp")
		}
		return both(l, err, a, b, home, office)
	}},
	{"only-443", "nothing but TCP to port 443 leaves one network", IPv4, false, func(l *Lab, a, b string) (*Host, *Host, error) {
		office, err := l.Router("office", PortRestricted, l.Internet())
		if err == nil {
			err = office.Block(AllBut443)
		}
		return both(l, err, a, b, office, l.Internet())
	}},
	{"ipv6", "IPv6 alone at both, behind filters without NAT", Both, true, sixes(IPv6, IPv6)},
	{"ipv6-dual", "IPv6 alone at one, both versions at the other", Both, true, sixes(IPv6, Both)},
	{"ipv6-ipv4", "IPv6 alone at one, IPv4 alone at the other", Both, false, sixes(IPv6, IPv4)},
	{"dual", "both versions at both; NATs that map by destination", Both, true, func(l *Lab, a, b string) (*Host, *Host, error) {
		home, err := l.RouterWith("home", Symmetric, l.Internet(), Both)
		office, err2 := l.RouterWith("office", Symmetric, l.Internet(), Both)
		return both(l, errors.Join(err, err2), a, b, home, office)
	}},
}

// both makes the two machines, unless their networks could not be made.
func both(l *Lab, err error, a, b string, na, nb Network) (ha, hb *Host, _ error) {
	if err != nil {
		return nil, nil, err
	}
	ha, err1 := l.Host(a, na)
	hb, err2 := l.Host(b, nb)
	return ha, hb, errors.Join(err1, err2)
}

// neighbours are two homes behind one carrier's NAT.
func neighbours(kind NAT) func(l *Lab, a, b string) (*Host, *Host, error) {
	return func(l *Lab, a, b string) (*Host, *Host, error) {
		carrier, err := l.Router("carrier", kind, l.Internet())
		if err != nil {
			return nil, nil, err
		}
		home, err1 := l.Router("home", PortRestricted, carrier)
		office, err2 := l.Router("office", PortRestricted, carrier)
		return both(l, errors.Join(err1, err2), a, b, home, office)
	}
}

// sixes are two homes with these versions of IP.
func sixes(left, right Stack) func(l *Lab, a, b string) (*Host, *Host, error) {
	return func(l *Lab, a, b string) (*Host, *Host, error) {
		home, err1 := l.RouterWith("home", PortRestricted, l.Internet(), left)
		office, err2 := l.RouterWith("office", PortRestricted, l.Internet(), right)
		return both(l, errors.Join(err1, err2), a, b, home, office)
	}
}

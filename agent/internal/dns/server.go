package dns

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
)

// A Transport is how a server is asked.
type Transport string

// The transports. The zero value is UDP.
const (
	UDP   Transport = "udp"   // RFC 1035, section 4.2.1; an answer that is too long is asked for over TCP
	TCP   Transport = "tcp"   // RFC 7766
	TLS   Transport = "tls"   // RFC 7858
	HTTPS Transport = "https" // RFC 8484
)

// A Server is one that answers for names of others. It can be compared.
type Server struct {
	Addr netip.AddrPort
	Over Transport

	// Name is the one in the certificate of a server that is asked over TLS or
	// HTTPS; empty when the certificate holds the address.
	Name string
}

func (s Server) String() string { return string(cmp.Or(s.Over, UDP)) + "://" + s.Addr.String() }

// authority is what the certificate of s has to be for.
func (s Server) authority() string { return cmp.Or(s.Name, s.Addr.Addr().String()) }

// A Dial opens a connection over "udp" or "tcp".
type Dial func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error)

// Nameservers are servers that the machine asks for some names.
type Nameservers struct {
	// Servers are asked in their order.
	Servers []Server
	// Domains are those whose names they are asked for; none means every name.
	Domains []string
	// Search says whether the domains are search domains of the machine.
	Search bool
}

// guide says whom to ask. It does not change.
type guide struct {
	// domains holds the servers by domain; every name is in the domain "".
	domains map[string][]Server
	own     []netip.Addr // asking ourselves would never end
}

func newGuide(groups []Nameservers, own []netip.Addr) *guide {
	g := &guide{domains: map[string][]Server{}, own: own}
	for _, group := range groups {
		domains := group.Domains
		if len(domains) == 0 {
			domains = []string{""}
		}
		for _, domain := range domains {
			domain = canonical(domain)
			g.domains[domain] = append(g.domains[domain], g.without(group.Servers)...)
		}
	}
	return g
}

// without returns the servers that are not this resolver.
func (g *guide) without(servers []Server) []Server {
	var others []Server
	for _, s := range servers {
		own := false
		for _, addr := range g.own {
			own = own || s.Addr == netip.AddrPortFrom(addr, Port)
		}
		if !own {
			others = append(others, s)
		}
	}
	return others
}

// find returns the servers of the longest domain that holds the name. found is
// false when no group is for it: then it is asked of the servers that the
// machine had before.
func (g *guide) find(name string) (servers []Server, found bool) {
	for at, ok := name, name != ""; ok; at, ok = parent(at) {
		if servers, found = g.domains[at]; found {
			return servers, true
		}
	}
	servers, found = g.domains[""]
	return servers, found
}

// alike reports whether the same servers are asked for two names.
func (g *guide) alike(a, b string) bool {
	of, found := g.find(a)
	others, alsoFound := g.find(b)
	return found == alsoFound && slices.Equal(of, others)
}

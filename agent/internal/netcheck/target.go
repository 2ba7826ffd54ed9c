package netcheck

import (
	"net"
	"net/url"
	"slices"
	"strconv"

	"github.com/pion/stun/v2"
)

// defaultPort is that of STUN and TURN (RFC 8489, section 18.6).
const defaultPort = "3478"

// ServersOf are the servers behind the URLs of one relay (RFC 7064, RFC 7065),
// each once. URLs of other kinds lead to no STUN server and are left out.
func ServersOf(region string, urls []string) (servers []Server) {
	for _, text := range urls {
		uri, err := stun.ParseURI(text)
		if err != nil || uri.Scheme == stun.SchemeTypeSTUNS || uri.Scheme == stun.SchemeTypeTURNS {
			continue
		}
		host := net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port))
		server := Server{Host: host, Relay: uri.Scheme == stun.SchemeTypeTURN, Region: region}
		if !slices.ContainsFunc(servers, func(s Server) bool { return s.Host == host }) {
			servers = append(servers, server)
		}
	}
	return servers
}

// Named are servers that a user names, with or without a port.
func Named(hosts []string) (servers []Server) {
	for _, host := range hosts {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(host, defaultPort)
		}
		servers = append(servers, Server{Host: host})
	}
	return servers
}

// BesideManagement is where a control plane has its own relay; empty when the
// address is none.
func BesideManagement(address string) []Server {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Hostname() == "" {
		return nil
	}
	return []Server{{Host: net.JoinHostPort(parsed.Hostname(), defaultPort), Relay: true}}
}

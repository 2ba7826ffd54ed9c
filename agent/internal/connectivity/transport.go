package connectivity

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/internal/webstream"
)

// A transport is how a relay is reached, the preferred first.
type transport int

const (
	overUDP transport = iota
	overTCP
	overTLS
	overWebSocket
)

// Transports are the names of all transports, the preferred first.
var Transports = []string{"udp", "tcp", "tls", "websocket"}

func (t transport) String() string { return Transports[t] }

const (
	// alpnTURN names TURN over TLS (RFC 7443, section 4).
	alpnTURN = "stun.turn"
	// webSocketTURN is the subprotocol in which each binary message holds
	// whole frames of TURN.
	webSocketTURN = "turn"
)

// A relayURL is one way to reach one relay.
type relayURL struct {
	host      string         // host:port
	server    netip.AddrPort // the address of host that is meant; the zero value: any
	transport transport
	web       string                                 // the whole URL, of a WebSocket
	region    string                                 // where the relay stands, for people
	tls       func(host string) (*tls.Config, error) // nil: the system's authorities
	credential
}

func (u relayURL) streaming() bool { return u.transport != overUDP }

// name is host without the port: what two ports of one relay share.
func (u relayURL) name() string {
	name, _, err := net.SplitHostPort(u.host)
	if err != nil {
		return u.host
	}
	return name
}

// same reports whether u leads to the same place as other, in the same way,
// whatever the version of IP.
func (u relayURL) same(other relayURL) bool {
	return u.host == other.host && u.transport == other.transport
}

// parseRelayURL reads turn:, turns: (RFC 7065) and wss:. It returns false for
// stun:, which stunServers reads.
func parseRelayURL(text string, relay Relay) (relayURL, bool, error) {
	u := relayURL{tls: relay.TLS, region: relay.Region, credential: credential{relay.Username, relay.Password}}
	if strings.HasPrefix(text, "wss:") {
		parsed, err := url.Parse(text)
		if err != nil || parsed.Hostname() == "" {
			return u, false, fmt.Errorf("relay %q is not a WebSocket URL", text)
		}
		port := parsed.Port()
		if port == "" {
			port = "443"
		}
		u.host, u.transport, u.web = net.JoinHostPort(parsed.Hostname(), port), overWebSocket, text
		return u, true, nil
	}
	uri, err := stun.ParseURI(text)
	if err != nil {
		return u, false, fmt.Errorf("relay %q: %w", text, err)
	}
	u.host = net.JoinHostPort(uri.Host, fmt.Sprint(uri.Port))
	switch {
	case uri.Scheme == stun.SchemeTypeTURN && uri.Proto == stun.ProtoTypeTCP:
		u.transport = overTCP
	case uri.Scheme == stun.SchemeTypeTURN:
		u.transport = overUDP
	case uri.Scheme == stun.SchemeTypeTURNS && uri.Proto == stun.ProtoTypeTCP:
		u.transport = overTLS
	case uri.Scheme == stun.SchemeTypeSTUN:
		return u, false, nil
	default:
		return u, false, fmt.Errorf("relay %q is not supported; use turn, turns over TCP, wss or stun", text)
	}
	return u, true, nil
}

// config returns how TLS with the relay is made.
func (u relayURL) config(protocols ...string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(u.host)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if u.tls != nil {
		if config, err = u.tls(host); err != nil {
			return nil, err
		}
	}
	config.ServerName, config.NextProtos = host, protocols
	return config, nil
}

// dial opens the stream to a relay and returns the address that it leads to.
func (u relayURL) dial(ctx context.Context, dialer *net.Dialer) (net.Conn, netip.AddrPort, error) {
	if u.transport == overWebSocket {
		return u.dialWeb(ctx, dialer)
	}
	conn, err := dialer.DialContext(ctx, "tcp", u.host)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	server, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil || u.transport == overTCP {
		return conn, server, err
	}
	config, err := u.config(alpnTURN)
	if err != nil {
		return nil, server, errors.Join(err, conn.Close())
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, server, errors.Join(err, conn.Close())
	}
	if secure.ConnectionState().NegotiatedProtocol != alpnTURN {
		return nil, server, errors.Join(errors.New("what listens there speaks no TURN"), conn.Close())
	}
	return secure, server, nil
}

// dialWeb opens a WebSocket, through the proxy that the environment names.
func (u relayURL) dialWeb(ctx context.Context, dialer *net.Dialer) (net.Conn, netip.AddrPort, error) {
	config, err := u.config("http/1.1")
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	carrier := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DialContext: dialer.DialContext}
	conn, err := webstream.Dial(ctx, carrier, u.web, webSocketTURN)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	server, err := netip.ParseAddrPort(u.host)
	if err != nil { // a name; what the connection leads to may be the proxy
		server, err = netip.ParseAddrPort(conn.RemoteAddr().String())
	}
	if err != nil {
		return nil, server, errors.Join(err, conn.Close())
	}
	return conn, server, nil
}

// parseRelays returns the URLs in the order they are tried: UDP before streams.
// It skips what it does not know and reports it.
func parseRelays(list []Relay) ([]relayURL, error) {
	var urls []relayURL
	var failures []error
	for _, relay := range list {
		for _, text := range relay.URLs {
			switch url, relays, err := parseRelayURL(text, relay); {
			case err != nil:
				failures = append(failures, err)
			case relays:
				urls = append(urls, url)
			}
		}
	}
	slices.SortStableFunc(urls, func(a, b relayURL) int { return cmp.Compare(a.transport, b.transport) })
	return urls, errors.Join(failures...)
}

// stunServers returns host:port of every server that answers binding requests
// over UDP.
func stunServers(list []Relay) []string {
	var hosts []string
	for _, relay := range list {
		for _, text := range relay.URLs {
			uri, err := stun.ParseURI(text)
			if err == nil && uri.Scheme == stun.SchemeTypeSTUN {
				hosts = append(hosts, net.JoinHostPort(uri.Host, fmt.Sprint(uri.Port)))
			}
		}
	}
	return hosts
}

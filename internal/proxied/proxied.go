// Package proxied tells who has come through a reverse proxy.
//
// What a proxy says of its clients is taken from networks that the operator
// trusts, and from nobody else: everybody can say it.
//
//	client ──> proxy of TCP  ──PROXY protocol─────> Listener: RemoteAddr is the client's
//	client ──> proxy of HTTP ──X-Forwarded-For────> Handler: Request.RemoteAddr is the client's
package proxied

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/spf13/pflag"
)

// headerPatience bounds the wait for a header of the PROXY protocol. What comes
// later is taken for a connection without one.
const headerPatience = 10 * time.Second

// Trusted are the networks of proxies whose word is taken. Nil trusts nobody.
type Trusted []netip.Prefix

// Flag adds --trusted-proxies to a command line; Parse reads it.
func Flag(flags *pflag.FlagSet, networks *[]string) {
	flags.StringSliceVar(networks, "trusted-proxies", nil,
		"networks of reverse proxies, such as 10.0.0.0/8, that tell the address of a client: by the PROXY protocol, or by X-Forwarded-For in HTTP (default: none)")
}

// Parse reads networks, or single addresses. The error names the first that is
// neither.
func Parse(texts []string) (Trusted, error) {
	var trusted Trusted
	for _, text := range texts {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			addr, failed := netip.ParseAddr(text)
			if failed != nil {
				return nil, fmt.Errorf("%q is neither a network such as 10.0.0.0/8 nor an address", text)
			}
			network = netip.PrefixFrom(addr, addr.BitLen())
		}
		trusted = append(trusted, network.Masked())
	}
	return trusted, nil
}

// Trusts reports whether addr is a proxy whose word is taken.
func (t Trusted) Trusts(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(t, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// Listener returns a listener whose connections from trusted proxies may begin
// with a header of the PROXY protocol, version 1 or 2. Their RemoteAddr waits
// for it and is the client's; Opened tells the proxy's.
func (t Trusted) Listener(listener net.Listener) net.Listener {
	if len(t) == 0 {
		return listener
	}
	return &proxyproto.Listener{
		Listener: listener, ReadHeaderTimeout: headerPatience,
		ConnPolicy: func(from proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			if t.Trusts(addrOf(from.Upstream)) {
				return proxyproto.USE, nil
			}
			return proxyproto.SKIP, nil
		},
	}
}

// Handler shows next each request with the address of the client that trusted
// proxies tell in X-Forwarded-For. The last address there that is not a trusted
// proxy's is the client's: whatever stands before it may be his invention.
func (t Trusted) Handler(next http.Handler) http.Handler {
	if len(t) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			if client := t.client(at.Addr(), r.Header.Values("X-Forwarded-For")); client != at.Addr() {
				r = r.WithContext(r.Context()) // the caller's stays as it is
				r.RemoteAddr = netip.AddrPortFrom(client, at.Port()).String()
			}
		}
		next.ServeHTTP(w, r)
	})
}

// client follows what proxies have noted, the nearest last.
func (t Trusted) client(addr netip.Addr, noted []string) netip.Addr {
	hops := strings.Split(strings.Join(noted, ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !t.Trusts(addr) {
			break
		}
		before, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		addr = before.Unmap().WithZone("")
	}
	return addr
}

// Opened returns the connection below conn, whose ends are those of the network:
// no proxy can choose them.
func Opened(conn net.Conn) net.Conn {
	for {
		switch above := conn.(type) {
		case interface{ NetConn() net.Conn }: // of TLS, and of ours
			conn = above.NetConn()
		case interface{ Raw() net.Conn }: // of the PROXY protocol
			conn = above.Raw()
		default:
			return conn
		}
	}
}

func addrOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return netip.Addr{}
}

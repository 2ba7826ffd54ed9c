package connectivity

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// resolveLimit bounds the wait for names before those that are known are
// tried. A name that takes longer is asked for again in its turn.
const resolveLimit = time.Second

// resolve returns the addresses of host:port that this machine has a route to,
// IPv4 before IPv6: relayed addresses are IPv4. Without any such route it
// returns all of them, so that the failure is told where something is sent.
func resolve(ctx context.Context, names *net.Resolver, hostport string) ([]netip.AddrPort, error) {
	if addr, err := netip.ParseAddrPort(hostport); err == nil {
		return []netip.AddrPort{addr}, nil
	}
	host, portText, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, fmt.Errorf("relay %s: %w", hostport, err)
	}
	port, err := names.LookupPort(ctx, "udp", portText)
	if err != nil {
		return nil, fmt.Errorf("relay %s: %w", hostport, err)
	}
	found, err := names.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("relay %s: resolve the name: %w", hostport, err)
	}
	addrs := make([]netip.AddrPort, 0, len(found))
	for _, addr := range found {
		addrs = append(addrs, netip.AddrPortFrom(addr.Unmap(), uint16(port)))
	}
	slices.SortStableFunc(addrs, func(a, b netip.AddrPort) int {
		return cmp.Compare(boolRank(a.Addr().Is6()), boolRank(b.Addr().Is6()))
	})
	if routed := slices.DeleteFunc(slices.Clone(addrs), func(a netip.AddrPort) bool { return !hasRoute(a) }); len(routed) > 0 {
		return routed, nil
	}
	return addrs, nil
}

// hasRoute asks the system for the way to addr. Connecting a UDP socket sends
// nothing.
func hasRoute(addr netip.AddrPort) bool {
	return sourceTo(addr, 0).IsValid()
}

// sourceTo is the address that packets to addr with this mark leave from; the
// zero Addr when there is no route.
func sourceTo(addr netip.AddrPort, mark uint32) netip.Addr {
	conn := towards(addr, mark)
	if conn == nil {
		return netip.Addr{}
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return local.Addr().Unmap().WithZone("")
}

// towards returns a socket with this mark that is connected to addr, nil when
// there is no route.
func towards(addr netip.AddrPort, mark uint32) *net.UDPConn {
	conn, err := (&net.Dialer{Control: markSocket(mark)}).Dial("udp", addr.String())
	if err != nil {
		return nil
	}
	return conn.(*net.UDPConn) // what the network is for
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// expanded returns a URL over UDP once for each address of its host, so that a
// relay is tried over IPv4 and over IPv6; streams look after that themselves.
// What cannot be resolved yet stays.
func expanded(ctx context.Context, names *net.Resolver, urls []relayURL) []relayURL {
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	known := make(map[string]chan []netip.AddrPort)
	for _, u := range urls {
		if u.streaming() || u.server.IsValid() || known[u.host] != nil {
			continue
		}
		found := make(chan []netip.AddrPort, 1)
		known[u.host] = found
		go func() { // ends with ctx
			addrs, _ := resolve(ctx, names, u.host) // the attempt tells the error
			found <- addrs
		}()
	}
	addrs := make(map[string][]netip.AddrPort, len(known))
	for host, found := range known {
		addrs[host] = <-found
	}
	var all []relayURL
	for _, u := range urls {
		if u.streaming() || u.server.IsValid() || len(addrs[u.host]) == 0 {
			all = append(all, u)
			continue
		}
		for _, addr := range addrs[u.host] {
			u.server = addr
			all = append(all, u)
		}
	}
	return all
}

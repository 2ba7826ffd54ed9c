package forward

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// A Rule leads what arrives at one place to another.
type Rule struct {
	Network string // tcp or udp

	// Listen is an address of this host; for Config.In the port alone counts.
	Listen netip.AddrPort

	// Target is host and port: of a peer for Config.Out, of a service of this
	// host for Config.In.
	Target string
}

// loopback is where listeners of the host stand that name no address: what
// leads into the network is not for others.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// ParseOut reads [tcp:|udp:][ADDRESS:]PORT=PEER:PORT.
func ParseOut(text string) (Rule, error) {
	network, listen, target, err := cut(text, "5432=db-1:5432")
	if err != nil {
		return Rule{}, err
	}
	r := Rule{Network: network, Target: target}
	if r.Listen, err = ParseListen(listen); err != nil {
		return Rule{}, fmt.Errorf("%q: %w", text, err)
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil || host == "" {
		return Rule{}, fmt.Errorf("%q: %q is not a peer and a port, such as db-1:5432", text, target)
	}
	_, err = parsePort(port)
	return r, atText(text, err)
}

// ParseIn reads [tcp:|udp:]PORT=[ADDRESS:]PORT.
func ParseIn(text string) (Rule, error) {
	network, listen, target, err := cut(text, "80=127.0.0.1:8080")
	if err != nil {
		return Rule{}, err
	}
	port, err := parsePort(listen)
	if err != nil {
		return Rule{}, fmt.Errorf("%q: on the left stands a port of the overlay: %w", text, err)
	}
	r := Rule{Network: network, Listen: netip.AddrPortFrom(netip.Addr{}, port), Target: target}
	if !strings.Contains(target, ":") {
		r.Target = net.JoinHostPort(loopback.String(), target)
	}
	_, other, err := net.SplitHostPort(r.Target)
	if err != nil {
		return Rule{}, fmt.Errorf("%q: %q is not an address and a port, such as 127.0.0.1:80", text, target)
	}
	_, err = parsePort(other)
	return r, atText(text, err)
}

// ParseListen reads [ADDRESS:]PORT; without an address it is the loopback's.
// Port 0 lets the system choose.
func ParseListen(text string) (netip.AddrPort, error) {
	if port, err := strconv.ParseUint(text, 10, 16); err == nil {
		return netip.AddrPortFrom(loopback, uint16(port)), nil
	}
	if rest, ok := strings.CutPrefix(text, "localhost:"); ok {
		text = net.JoinHostPort(loopback.String(), rest)
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return at, fmt.Errorf("%q is not an address and a port of this host, such as 127.0.0.1:1080", text)
	}
	return at, nil
}

func cut(text, such string) (network, listen, target string, err error) {
	network, rest := "tcp", text
	for _, name := range []string{"tcp", "udp"} {
		if after, ok := strings.CutPrefix(text, name+":"); ok {
			network, rest = name, after
		}
	}
	listen, target, ok := strings.Cut(rest, "=")
	if !ok || listen == "" || target == "" {
		return "", "", "", fmt.Errorf("%q is not of the form LISTEN=TARGET, such as %s", text, such)
	}
	return network, listen, target, nil
}

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("%q is not a port; use 1 to 65535", text)
	}
	return uint16(port), nil
}

func atText(text string, err error) error {
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	return nil
}

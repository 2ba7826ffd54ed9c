package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// A Stack is which versions of IP a host or a LAN has. A LAN cannot have one
// that the network of its router lacks; nor can a host.
type Stack uint8

// The values of Stack; zero is that of the network, IPv4 on the internet.
const (
	IPv4 Stack = 1 << iota
	IPv6
	Both = IPv4 | IPv6
)

// Stacks are the words for them in stories.
var Stacks = map[string]Stack{"ipv4": IPv4, "ipv6": IPv6, "both": Both}

func (s Stack) four() bool { return s&IPv4 != 0 }
func (s Stack) six() bool  { return s&IPv6 != 0 }

// Addresses of the internet under IPv6 (RFC 3849). Each host has the number of
// its IPv4 address; LANs are networks of 64 bits.
//
//	2001:db8::n       host n of the internet
//	2001:db8::ffff    the internet, on each of its links
//	2001:db8:n::/64   the LAN n
var gateway6 = netip.MustParseAddr("2001:db8::ffff")

func internetAddr(n int) netip.Addr {
	base := internetBase.As4()
	base[3] = byte(n)
	return netip.AddrFrom4(base)
}

func internetAddr6(n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", n))
}

func lanPrefix6(n int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x::/64", n))
}

// FQDN is the name under which a host of the internet is found by both of its
// addresses; empty on a LAN and where it has only one. Every program of the
// lab knows these names.
func (h *Host) FQDN() string {
	if !internetPrefix.Contains(h.Addr) || !h.Addr6.IsValid() {
		return ""
	}
	return nameOf(int(h.Addr.As4()[3]))
}

var internetPrefix = netip.PrefixFrom(internetBase, 24)

func nameOf(n int) string { return fmt.Sprintf("host%d.example", n) }

// names is /etc/hosts inside the lab.
func names() string {
	var text strings.Builder
	text.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for n := 1; n < 254; n++ {
		fmt.Fprintf(&text, "%s %s\n%s %s\n", internetAddr(n), nameOf(n), internetAddr6(n), nameOf(n))
	}
	return text.String()
}

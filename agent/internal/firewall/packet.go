package firewall

import (
	"encoding/binary"
	"net/netip"
)

// Protocol numbers (IANA "Assigned Internet Protocol Numbers").
const (
	protoHopByHop  = 0
	protoICMP      = 1
	protoTCP       = 6
	protoUDP       = 17
	protoRouting   = 43
	protoFragment  = 44
	protoICMPv6    = 58
	protoNoNext    = 59
	protoDstOption = 60
)

// ICMP types (RFC 792) and ICMPv6 types (RFC 4443) that the filter tells apart.
const (
	icmpEchoReply      = 0
	icmpUnreachable    = 3
	icmpEcho           = 8
	icmpTimeExceeded   = 11
	icmpParameter      = 12
	icmpv6Unreachable  = 1
	icmpv6Parameter    = 4
	icmpv6EchoRequest  = 128
	icmpv6EchoReply    = 129
	maxExtensionHeader = 8 // choice of ours: more is nobody's honest packet
)

// TCP flags (RFC 9293, section 3.1).
const (
	flagFIN = 1 << 0
	flagSYN = 1 << 1
	flagRST = 1 << 2
	flagACK = 1 << 4
)

// packet is what the filter reads of an IP packet.
type packet struct {
	size         int // bytes, header included
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16 // ICMP echo: both the identifier; else 0
	flags        uint8  // TCP
	icmpType     uint8  // ICMP and ICMPv6

	fragmentID uint32
	first      bool // first of several fragments
	later      bool // a fragment without ports

	quoted bool // an ICMP error; inner is the packet it is about
}

// echo reports an ICMP echo request or its reply.
func (p *packet) echo() bool { return p.echoRequest() || p.echoReply() }

func (p *packet) echoRequest() bool {
	return p.proto == protoICMP && p.icmpType == icmpEcho || p.proto == protoICMPv6 && p.icmpType == icmpv6EchoRequest
}

func (p *packet) echoReply() bool {
	return p.proto == protoICMP && p.icmpType == icmpEchoReply || p.proto == protoICMPv6 && p.icmpType == icmpv6EchoReply
}

func (p *packet) icmp() bool { return p.proto == protoICMP || p.proto == protoICMPv6 }

// parse reads a packet; false means that it is not one. For an ICMP error it
// reads the start of the packet that the error quotes into inner.
func parse(raw []byte, p, inner *packet) bool {
	rest, ok := p.readIP(raw)
	if !ok {
		return false
	}
	if p.later {
		return true
	}
	if !p.readTransport(rest) {
		return false
	}
	if p.isError() {
		// RFC 792 and RFC 4443: 8 bytes of ICMP, then the quoted packet.
		quote, ok := inner.readIP(rest[8:])
		p.quoted = ok && !inner.later && inner.readTransport(quote)
		return p.quoted
	}
	return true
}

func (p *packet) isError() bool {
	switch p.proto {
	case protoICMP:
		return p.icmpType == icmpUnreachable || p.icmpType == icmpTimeExceeded || p.icmpType == icmpParameter
	case protoICMPv6:
		return p.icmpType >= icmpv6Unreachable && p.icmpType <= icmpv6Parameter
	}
	return false
}

// readIP reads the network header and returns what follows it.
func (p *packet) readIP(raw []byte) ([]byte, bool) {
	*p = packet{}
	if len(raw) == 0 {
		return nil, false
	}
	switch raw[0] >> 4 {
	case 4:
		return p.readIPv4(raw)
	case 6:
		return p.readIPv6(raw)
	}
	return nil, false
}

// readIPv4 reads the header of RFC 791, section 3.1.
func (p *packet) readIPv4(raw []byte) ([]byte, bool) {
	if len(raw) < 20 {
		return nil, false
	}
	length := int(raw[0]&15) * 4
	if length < 20 || len(raw) < length {
		return nil, false
	}
	p.src = netip.AddrFrom4([4]byte(raw[12:16]))
	p.dst = netip.AddrFrom4([4]byte(raw[16:20]))
	p.proto = raw[9]
	fragment := binary.BigEndian.Uint16(raw[6:8])
	offset, more := fragment&0x1fff, fragment&0x2000 != 0
	p.fragmentID = uint32(binary.BigEndian.Uint16(raw[4:6]))
	p.later, p.first = offset > 0, offset == 0 && more
	return raw[length:], true
}

// readIPv6 reads the header of RFC 8200, section 3, and walks its extensions.
func (p *packet) readIPv6(raw []byte) ([]byte, bool) {
	if len(raw) < 40 {
		return nil, false
	}
	p.src = netip.AddrFrom16([16]byte(raw[8:24]))
	p.dst = netip.AddrFrom16([16]byte(raw[24:40]))
	next, rest := raw[6], raw[40:]
	for range maxExtensionHeader {
		switch next {
		case protoHopByHop, protoRouting, protoDstOption:
			if len(rest) < 8 {
				return nil, false
			}
			length := 8 + int(rest[1])*8
			if len(rest) < length {
				return nil, false
			}
			next, rest = rest[0], rest[length:]
		case protoFragment:
			if len(rest) < 8 {
				return nil, false
			}
			fragment := binary.BigEndian.Uint16(rest[2:4])
			p.fragmentID = binary.BigEndian.Uint32(rest[4:8])
			p.later, p.first = fragment>>3 > 0, fragment>>3 == 0 && fragment&1 != 0
			next, rest = rest[0], rest[8:]
			if p.later {
				p.proto = next
				return rest, true
			}
		default:
			p.proto = next
			return rest, true
		}
	}
	return nil, false
}

// readTransport reads ports, flags and types. A quoted packet may end after 8
// bytes of its transport header (RFC 792), so no more than that is required.
func (p *packet) readTransport(raw []byte) bool {
	switch p.proto {
	case protoTCP, protoUDP:
		if len(raw) < 8 {
			return false
		}
		p.sport = binary.BigEndian.Uint16(raw[0:2])
		p.dport = binary.BigEndian.Uint16(raw[2:4])
		if p.proto == protoTCP && len(raw) >= 14 {
			p.flags = raw[13]
		}
	case protoICMP, protoICMPv6:
		if len(raw) < 8 {
			return false
		}
		p.icmpType = raw[0]
		if p.echo() {
			id := binary.BigEndian.Uint16(raw[4:6])
			p.sport, p.dport = id, id
		}
	}
	return true
}

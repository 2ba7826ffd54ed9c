package tunnel

import (
	"net/netip"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.zx2c4.com/wireguard/device"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Constants of the protocols.
const (
	fragmentationNeeded = 4      // code of Destination Unreachable (RFC 792; RFC 1191, section 4)
	mayNotFragment      = 0x40   // in the byte of the flags (RFC 791, section 3.1)
	longestError4       = 576    // bytes of an ICMP error (RFC 1812, section 4.3.2.3)
	longestError6       = 1280   // RFC 4443, section 2.4 (c)
	leastMTU6           = 1280   // RFC 8200, section 5: a smaller one is not heeded
	networkControl      = 6 << 5 // precedence of ICMP errors (RFC 1812, section 4.3.2.5)
	errorTTL            = 64     // RFC 1700, "IP time to live"
	offsetMask          = 1<<13 - 1
)

// Choices of ours: a sender that heeds the first answer needs no second one.
const (
	refusalsPerSecond = 100
	refusalsBurst     = 50
)

// refuse reports whether the packet is larger than the path of its peer carries,
// and may not be broken up: its sender is told, as a router tells it (RFC 1191,
// RFC 8201), and sends smaller ones. All others go on; outside of the tunnel the
// kernel may break them up.
func (w *waking) refuse(packet []byte) bool {
	limit := 0
	if w.endpoint != nil {
		limit = w.endpoint.mtu()
	}
	if limit == 0 || len(packet) <= limit {
		return false
	}
	answer := tooBig(packet, limit)
	if answer == nil {
		return false
	}
	if w.refusals.Allow() {
		_, _ = w.sender.Write([][]byte{answer}, device.MessageTransportHeaderSize) // the sender repeats, and is answered then
	}
	return true
}

// tooBig returns the ICMP error about a packet that is larger than mtu, behind
// the room that an interface needs for its own headers. Nil: nobody may be told
// (RFC 1122, section 3.2.2; RFC 4443, section 2.4), or would heed it.
func tooBig(packet []byte, mtu int) []byte {
	source, destination, quote := about(packet, mtu)
	if !source.IsValid() || source.IsUnspecified() || source.IsMulticast() || destination.IsMulticast() || quote == 0 {
		return nil
	}
	body := &icmp.PacketTooBig{MTU: mtu, Data: packet[:min(len(packet), quote)]}
	from, to := tcpip.AddrFromSlice(destination.AsSlice()), tcpip.AddrFromSlice(source.AsSlice())
	const room = device.MessageTransportHeaderSize
	if source.Is4() {
		// The body has its number where RFC 1191 wants it: in the last 16 bits.
		raw, err := (&icmp.Message{Type: ipv4.ICMPTypeDestinationUnreachable, Code: fragmentationNeeded, Body: body}).Marshal(nil)
		if err != nil {
			return nil
		}
		answer := make([]byte, room+header.IPv4MinimumSize, room+header.IPv4MinimumSize+len(raw))
		ip := header.IPv4(answer[room:])
		ip.Encode(&header.IPv4Fields{
			TOS: networkControl, TotalLength: uint16(header.IPv4MinimumSize + len(raw)), TTL: errorTTL,
			Protocol: protocolICMP, SrcAddr: from, DstAddr: to,
		})
		ip.SetChecksum(^ip.CalculateChecksum())
		return append(answer, raw...)
	}
	raw, err := (&icmp.Message{Type: ipv6.ICMPTypePacketTooBig, Body: body}).Marshal(icmp.IPv6PseudoHeader(destination.AsSlice(), source.AsSlice()))
	if err != nil {
		return nil
	}
	answer := make([]byte, room+header.IPv6MinimumSize, room+header.IPv6MinimumSize+len(raw))
	header.IPv6(answer[room:]).Encode(&header.IPv6Fields{
		TrafficClass: networkControl, PayloadLength: uint16(len(raw)), TransportProtocol: protocolICMP6, HopLimit: errorTTL, SrcAddr: from, DstAddr: to,
	})
	return append(answer, raw...)
}

// about returns the ends of a packet and how much of it an ICMP error quotes at
// most; 0 when there must not be one.
func about(packet []byte, mtu int) (source, destination netip.Addr, quote int) {
	switch {
	case len(packet) >= header.IPv4MinimumSize && packet[0]>>4 == 4:
		ip := header.IPv4(packet)
		size := int(ip.HeaderLength())
		if size < header.IPv4MinimumSize || size > len(packet) || packet[6]&mayNotFragment == 0 || ip.FragmentOffset()&offsetMask != 0 {
			return source, destination, 0
		}
		if ip.Protocol() == protocolICMP && (len(packet) == size || isError4(ipv4.ICMPType(packet[size]))) {
			return source, destination, 0
		}
		quote = longestError4 - header.IPv4MinimumSize - header.ICMPv4MinimumSize
		return netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20])), quote
	case len(packet) >= header.IPv6MinimumSize && packet[0]>>4 == 6 && mtu >= leastMTU6:
		if packet[6] == protocolICMP6 && (len(packet) == header.IPv6MinimumSize || packet[header.IPv6MinimumSize] < 128) {
			return source, destination, 0 // below 128 are errors (RFC 4443, section 2.1)
		}
		quote = longestError6 - header.IPv6MinimumSize - header.ICMPv6PacketTooBigMinimumSize
		return netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40])), quote
	}
	return source, destination, 0
}

// isError4 reports the types of RFC 792 that are answers to a packet.
func isError4(kind ipv4.ICMPType) bool {
	switch kind {
	case ipv4.ICMPTypeDestinationUnreachable, ipv4.ICMPTypeTimeExceeded, ipv4.ICMPTypeParameterProblem, ipv4.ICMPTypeRedirect, 4: // 4: source quench
		return true
	}
	return false
}

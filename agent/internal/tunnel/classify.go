package tunnel

import "encoding/binary"

// Every datagram that reaches the socket is one of these. The order of the
// tests matters: a WireGuard session index may happen to equal the STUN
// cookie, so the shape of WireGuard is looked for first.
//
//	 0                   1                   2                   3
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  type 1 to 4  |  0            0            0                  |  WireGuard, at least 32 bytes
//	|0 0| message type              | length                        |  STUN (RFC 8489, section 5),
//	|                    magic cookie 0x2112A442                    |    cookie in bytes 4 to 7
//	|0 1| channel number            | length                        |  ChannelData (RFC 8656, section 12.4)
type class uint8

const (
	classNoise     class = iota // none of the below: dropped and counted
	classWireGuard              // left to the device
	classSTUN                   // for connectivity
	classChannel                // ChannelData, if the source is a relay of ours
)

// Constants of the protocols.
const (
	messageInitiation = 1 // WireGuard, section 5.4.2
	messageResponse   = 2 // section 5.4.3
	messageCookie     = 3 // section 5.4.7
	messageTransport  = 4 // section 5.4.6

	initiationSize = 148
	responseSize   = 92
	smallestSize   = 32 // an empty transport message

	stunCookie     = 0x2112A442 // RFC 8489, section 5
	stunHeaderSize = 20
	channelHeader  = 4 // RFC 8656, section 12.4
	firstChannel   = 0x4000
	lastChannel    = 0x7FFF
)

// classify names the protocol of a datagram. It never looks beyond len(b).
func classify(b []byte) class {
	if wireguardType(b) != 0 {
		return classWireGuard
	}
	if len(b) >= stunHeaderSize && b[0] < 0x40 && binary.BigEndian.Uint32(b[4:8]) == stunCookie {
		return classSTUN
	}
	if len(b) >= channelHeader && b[0] >= 0x40 && b[0] < 0x80 {
		return classChannel
	}
	return classNoise
}

// wireguardType returns 1 to 4 for a datagram that has the shape of a
// WireGuard message and 0 for any other.
func wireguardType(b []byte) byte {
	if len(b) < smallestSize || b[0] < messageInitiation || b[0] > messageTransport || b[1]|b[2]|b[3] != 0 {
		return 0
	}
	return b[0]
}

// channelData returns number and payload of a ChannelData message, and false
// when the length it states exceeds what has arrived.
func channelData(b []byte) (channel uint16, payload []byte, ok bool) {
	if len(b) < channelHeader {
		return 0, nil, false
	}
	channel = binary.BigEndian.Uint16(b)
	size := int(binary.BigEndian.Uint16(b[2:]))
	if channel < firstChannel || channel > lastChannel || len(b) < channelHeader+size {
		return 0, nil, false
	}
	return channel, b[channelHeader : channelHeader+size], true
}

package tunnel

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"golang.zx2c4.com/wireguard/conn"
)

// Message types and attributes of RFC 8656, sections 18.1 and 18.2.
const (
	typeSendIndication = 0x0016
	typeDataIndication = 0x0017
	attrXORPeerAddress = 0x0012
	attrData           = 0x0013

	familyIPv4 = 1 // RFC 8489, section 14.1
	familyIPv6 = 2
)

var (
	noAddr       netip.AddrPort
	errMalformed = errors.New("malformed indication")
)

// A STUNMessage is a STUN message that arrived on the tunnel's sockets.
type STUNMessage struct {
	Payload []byte

	// Addr is the sender: straight, or behind Relay the relayed address of the
	// peer. Zero with a Relay means that the relay itself speaks.
	Addr  netip.AddrPort
	Relay *Relay

	// Local is the address it arrived at, zero where the system does not say.
	Local netip.Addr
}

// ReadSTUN returns the next message that is not the device's, and the
// context's error when it ends first.
func (b *Bind) ReadSTUN(ctx context.Context) (STUNMessage, error) {
	select {
	case m := <-b.stun:
		return m, nil
	case <-ctx.Done():
		return STUNMessage{}, ctx.Err()
	}
}

// WriteSTUN sends one STUN message from the tunnel's socket. While the bind is
// closed it returns net.ErrClosed, and the sender repeats later.
func (b *Bind) WriteSTUN(message []byte, to netip.AddrPort) error {
	if !b.open.Load() {
		return errNotOpen
	}
	return b.std.Send([][]byte{message}, &conn.StdNetEndpoint{AddrPort: normal(to)})
}

func (b *Bind) queueSTUN(payload []byte, from *origin) {
	if len(payload) > largestSTUN || len(b.stun) == cap(b.stun) {
		b.counters.stunDrops.Add(1)
		return
	}
	m := STUNMessage{Payload: slices.Clone(payload), Addr: from.addr, Relay: from.relay}
	if from.inner != nil {
		m.Local = from.inner.SrcIP()
	}
	select {
	case b.stun <- m:
	default:
		b.counters.stunDrops.Add(1)
	}
}

func isDataIndication(b []byte) bool { return binary.BigEndian.Uint16(b) == typeDataIndication }

// openDataIndication returns the peer's address and the data (RFC 8656, section 11.4).
func openDataIndication(b []byte) (netip.AddrPort, []byte, error) {
	var peer netip.AddrPort
	var payload []byte
	rest := b[stunHeaderSize:]
	if size := int(binary.BigEndian.Uint16(b[2:])); size < len(rest) {
		rest = rest[:size]
	}
	for len(rest) >= 4 {
		kind, size := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		if len(rest) < 4+size {
			return peer, nil, errMalformed
		}
		switch value := rest[4 : 4+size]; kind {
		case attrXORPeerAddress:
			peer = xorAddress(value, b[8:stunHeaderSize])
		case attrData:
			payload = value
		}
		rest = rest[min(len(rest), 4+padded(size)):]
	}
	if !peer.IsValid() || payload == nil {
		return peer, nil, errMalformed
	}
	return peer, payload, nil
}

// appendSendIndication wraps payload for peer (RFC 8656, section 11.1).
func appendSendIndication(dst []byte, peer netip.AddrPort, payload []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, typeSendIndication)
	dst = append(dst, 0, 0) // length, below
	dst = binary.BigEndian.AppendUint32(dst, stunCookie)
	var id [12]byte
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	dst = append(dst, id[:]...)
	dst = appendXORAddress(dst, peer, id[:])
	dst = binary.BigEndian.AppendUint16(dst, attrData)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(payload)))
	dst = append(dst, payload...)
	for range padded(len(payload)) - len(payload) {
		dst = append(dst, 0)
	}
	binary.BigEndian.PutUint16(dst[start+2:], uint16(len(dst)-start-stunHeaderSize))
	return dst
}

// appendXORAddress writes XOR-PEER-ADDRESS (RFC 8489, section 14.2).
func appendXORAddress(dst []byte, addr netip.AddrPort, id []byte) []byte {
	raw := addr.Addr().AsSlice()
	family := byte(familyIPv4)
	if len(raw) == 16 {
		family = familyIPv6
	}
	dst = binary.BigEndian.AppendUint16(dst, attrXORPeerAddress)
	dst = binary.BigEndian.AppendUint16(dst, uint16(4+len(raw)))
	dst = append(dst, 0, family)
	dst = binary.BigEndian.AppendUint16(dst, addr.Port()^(stunCookie>>16))
	mask := binary.BigEndian.AppendUint32(nil, stunCookie)
	mask = append(mask, id...)
	for i := range raw {
		dst = append(dst, raw[i]^mask[i])
	}
	return dst
}

// xorAddress reads the value of an XOR address; zero when it is malformed.
func xorAddress(value, id []byte) netip.AddrPort {
	if len(value) != 8 && len(value) != 20 {
		return noAddr
	}
	mask := binary.BigEndian.AppendUint32(nil, stunCookie)
	mask = append(mask, id...)
	raw := slices.Clone(value[4:])
	for i := range raw {
		raw[i] ^= mask[i]
	}
	if (value[1] == familyIPv4) != (len(raw) == 4) {
		return noAddr
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(value[2:])^(stunCookie>>16))
}

// padded rounds up to the boundary of four bytes (RFC 8489, section 14).
func padded(size int) int { return (size + 3) &^ 3 }

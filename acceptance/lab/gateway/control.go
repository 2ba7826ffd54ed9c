package gateway

import (
	"encoding/binary"
	"net/netip"
)

const (
	udp = 17 // of IANA

	success      = 0
	wrongVersion = 1 // both protocols
	notPermitted = 2 // both protocols
	unsupported  = 5 // NAT-PMP: opcode
	malformed    = 3 // PCP
)

// control answers what comes to port 5351.
func (g *Gateway) control(request []byte, from netip.AddrPort) []byte {
	switch {
	case len(request) < 2:
		return nil
	case request[0] == 0:
		return g.natPMP(request, from)
	case !g.config.PCP: // RFC 6887, appendix A
		return binary.BigEndian.AppendUint32([]byte{0, request[1] | 0x80, 0, wrongVersion}, g.epoch())
	}
	return g.pcp(request, from)
}

// natPMP answers as RFC 6886, sections 3.2 and 3.3 want it.
func (g *Gateway) natPMP(request []byte, from netip.AddrPort) []byte {
	op := request[1]
	answer := func(result uint16) []byte {
		b := binary.BigEndian.AppendUint16([]byte{0, op | 0x80}, result)
		return binary.BigEndian.AppendUint32(b, g.epoch())
	}
	switch {
	case op == 0:
		external := g.config.External.As4()
		return append(answer(success), external[:]...)
	case op != 1 || len(request) < 12:
		return answer(unsupported)
	}
	port, wanted := binary.BigEndian.Uint16(request[4:]), binary.BigEndian.Uint16(request[6:])
	lifetime := binary.BigEndian.Uint32(request[8:])
	to := netip.AddrPortFrom(from.Addr(), port)
	var err error
	if lifetime == 0 {
		wanted, err = 0, g.withdraw(func(_ uint16, at netip.AddrPort, _ string) bool { return at == to })
	} else {
		wanted, err = g.forward(wanted, to, "", true)
	}
	if err != nil {
		return answer(notPermitted)
	}
	b := binary.BigEndian.AppendUint16(answer(success), port)
	b = binary.BigEndian.AppendUint16(b, wanted)
	return binary.BigEndian.AppendUint32(b, lifetime)
}

// pcp answers a MAP request (RFC 6887, section 11).
func (g *Gateway) pcp(request []byte, from netip.AddrPort) []byte {
	answer := func(result byte) []byte {
		b := []byte{2, request[1] | 0x80, 0, result}
		b = binary.BigEndian.AppendUint32(b, 0)
		b = binary.BigEndian.AppendUint32(b, g.epoch())
		return append(b, make([]byte, 12)...)
	}
	if len(request) < 60 || request[1] != 1 || request[36] != udp {
		return answer(malformed)
	}
	if netip.AddrFrom16([16]byte(request[8:24])).Unmap() != from.Addr() {
		return answer(12) // ADDRESS_MISMATCH, section 7.4
	}
	lifetime := binary.BigEndian.Uint32(request[4:])
	nonce := string(request[24:36])
	port, wanted := binary.BigEndian.Uint16(request[40:]), binary.BigEndian.Uint16(request[42:])
	to := netip.AddrPortFrom(from.Addr(), port)
	var err error
	if lifetime == 0 {
		err = g.withdraw(func(_ uint16, at netip.AddrPort, owner string) bool { return at == to && owner == nonce })
	} else {
		wanted, err = g.forward(wanted, to, nonce, true)
	}
	if err != nil {
		return answer(notPermitted)
	}
	b := answer(success)
	binary.BigEndian.PutUint32(b[4:], lifetime)
	b = append(b, request[24:44]...) // nonce, protocol, internal port; the external one follows
	binary.BigEndian.PutUint16(b[42:], wanted)
	external := g.config.External.As16()
	return append(b, external[:]...)
}

package portmap

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// A MAP request (RFC 6887, sections 7.1 and 11.1) and its answer (7.2):
//
//	 0                   1                   2                   3
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  version 2    |R|  opcode 1   |  reserved     |  result       |
//	|                      lifetime in seconds                      |
//	|  request: the client's address, 16 bytes                      |
//	|  answer:  epoch, 4 bytes; reserved, 12 bytes                  |
//	|                      nonce, 12 bytes                          |
//	|  protocol 17  |            reserved                           |
//	|        internal port          |         external port         |
//	|                 external address, 16 bytes                    |
const (
	pcpVersion  = 2
	pcpMap      = 1
	pcpResponse = 0x80
	pcpSize     = 60
	pcpNonce    = 12

	protocolUDP = 17 // of IANA
)

// pcp is a client of PCP. The nonce shows the gateway that a renewal comes from
// who made the mapping.
type pcp struct {
	gateway netip.AddrPort
	local   netip.Addr
	nonce   [pcpNonce]byte
}

func newPCP(gateway netip.AddrPort, local netip.Addr) *pcp {
	c := &pcp{gateway: gateway, local: local}
	_, _ = rand.Read(c.nonce[:]) // never fails since Go 1.24
	return c
}

func (c *pcp) add(ctx context.Context, port, wanted uint16) (Mapping, error) {
	return c.request(ctx, port, wanted, lifetime)
}

func (c *pcp) remove(ctx context.Context, port uint16) error {
	_, err := c.request(ctx, port, 0, 0)
	return err
}

func (c *pcp) request(ctx context.Context, port, wanted uint16, life time.Duration) (Mapping, error) {
	var mapping Mapping
	err := ask(ctx, c.gateway, appendPCP(nil, c.nonce, c.local, port, wanted, life), func(answer []byte) (ours bool, err error) {
		mapping, ours, err = readPCP(answer, c.nonce, port)
		return ours, err
	})
	return mapping, err
}

// appendPCP writes a MAP request.
func appendPCP(b []byte, nonce [pcpNonce]byte, local netip.Addr, port, wanted uint16, life time.Duration) []byte {
	client, unspecified := local.As16(), netip.IPv4Unspecified().As16()
	b = append(b, pcpVersion, pcpMap, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(life/time.Second))
	b = append(b, client[:]...)
	b = append(b, nonce[:]...)
	b = append(b, protocolUDP, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, wanted)
	return append(b, unspecified[:]...)
}

// errOldGateway means that the gateway knows an earlier version only: NAT-PMP
// (RFC 6887, appendix A).
var errOldGateway = errors.New("the gateway does not know PCP")

// readPCP reads the answer to the MAP request with this nonce; false for any
// other message.
func readPCP(b []byte, nonce [pcpNonce]byte, port uint16) (m Mapping, ours bool, err error) {
	if len(b) >= 4 && b[0] < pcpVersion && b[1]&pcpResponse != 0 {
		return m, true, errOldGateway
	}
	if len(b) < 4 || b[0] != pcpVersion || b[1] != pcpResponse|pcpMap {
		return m, false, nil
	}
	if result := b[3]; result != 0 {
		return m, true, fmt.Errorf("the gateway refuses: %s", pcpResult(result))
	}
	if len(b) < pcpSize || [pcpNonce]byte(b[24:36]) != nonce || b[36] != protocolUDP || binary.BigEndian.Uint16(b[40:]) != port {
		return m, false, nil
	}
	m.Lifetime = time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second
	m.External = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[44:60])).Unmap(), binary.BigEndian.Uint16(b[42:]))
	return m, true, usable(m)
}

// usable refuses an answer that no peer could do anything with. A deleted
// mapping has no lifetime and need not be usable.
func usable(m Mapping) error {
	addr := m.External.Addr()
	if m.Lifetime > 0 && (m.External.Port() == 0 || !addr.IsValid() || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast()) {
		return fmt.Errorf("the gateway names %s, which is no address to be reached at", m.External)
	}
	return nil
}

// pcpResult says what a result code means (RFC 6887, section 7.4).
func pcpResult(code byte) string {
	switch code {
	case 1:
		return "another version is wanted"
	case 2:
		return "not allowed"
	case 3:
		return "malformed request"
	case 4:
		return "mappings are not supported"
	case 8:
		return "no resources"
	case 11:
		return "the external address or port cannot be had"
	case 12:
		return "the request came through another NAT"
	}
	return fmt.Sprintf("result %d", code)
}

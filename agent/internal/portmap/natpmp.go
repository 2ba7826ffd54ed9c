package portmap

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Messages of NAT-PMP (RFC 6886, sections 3.2 and 3.3):
//
//	version 0 | op 0                                        what is the external address?
//	version 0 | op 128 | result, 2 | epoch, 4 | address, 4
//	version 0 | op 1 | reserved, 2 | internal port, 2 | external port, 2 | lifetime, 4
//	version 0 | op 129 | result, 2 | epoch, 4 | internal port, 2 | external port, 2 | lifetime, 4
const (
	pmpVersion     = 0
	pmpAddress     = 0
	pmpMapUDP      = 1
	pmpResponse    = 128
	pmpAddressSize = 12
	pmpMapSize     = 16
)

// natPMP is a client of NAT-PMP.
type natPMP struct{ gateway netip.AddrPort }

func (c *natPMP) add(ctx context.Context, port, wanted uint16) (Mapping, error) {
	var addr netip.Addr
	err := ask(ctx, c.gateway, []byte{pmpVersion, pmpAddress}, func(answer []byte) (ours bool, err error) {
		addr, ours, err = readPMPAddress(answer)
		return ours, err
	})
	if err != nil {
		return Mapping{}, err
	}
	return c.request(ctx, addr, port, wanted, lifetime)
}

// remove asks for external port and lifetime 0 (RFC 6886, section 3.4).
func (c *natPMP) remove(ctx context.Context, port uint16) error {
	_, err := c.request(ctx, netip.Addr{}, port, 0, 0)
	return err
}

func (c *natPMP) request(ctx context.Context, addr netip.Addr, port, wanted uint16, life time.Duration) (Mapping, error) {
	request := []byte{pmpVersion, pmpMapUDP, 0, 0}
	request = binary.BigEndian.AppendUint16(request, port)
	request = binary.BigEndian.AppendUint16(request, wanted)
	request = binary.BigEndian.AppendUint32(request, uint32(life/time.Second))
	var mapping Mapping
	err := ask(ctx, c.gateway, request, func(answer []byte) (ours bool, err error) {
		mapping, ours, err = readPMPMap(answer, addr, port)
		return ours, err
	})
	return mapping, err
}

// readPMP looks at what all answers have in common; false for anything else.
func readPMP(b []byte, op byte) (ours bool, err error) {
	if len(b) < 4 || b[0] != pmpVersion || b[1] != pmpResponse|op {
		return false, nil
	}
	if result := binary.BigEndian.Uint16(b[2:]); result != 0 {
		return true, fmt.Errorf("the gateway refuses: %s", pmpResult(result))
	}
	return true, nil
}

func readPMPAddress(b []byte) (addr netip.Addr, ours bool, err error) {
	if ours, err = readPMP(b, pmpAddress); !ours || err != nil {
		return addr, ours, err
	}
	if len(b) < pmpAddressSize {
		return addr, false, nil
	}
	return netip.AddrFrom4([4]byte(b[8:12])), true, nil
}

func readPMPMap(b []byte, addr netip.Addr, port uint16) (m Mapping, ours bool, err error) {
	if ours, err = readPMP(b, pmpMapUDP); !ours || err != nil {
		return m, ours, err
	}
	if len(b) < pmpMapSize || binary.BigEndian.Uint16(b[8:]) != port {
		return m, false, nil
	}
	m.Lifetime = time.Duration(binary.BigEndian.Uint32(b[12:])) * time.Second
	m.External = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[10:]))
	return m, true, usable(m)
}

// pmpResult says what a result code means (RFC 6886, section 3.5).
func pmpResult(code uint16) string {
	switch code {
	case 1:
		return "another version is wanted"
	case 2:
		return "mappings are turned off"
	case 3:
		return "it has no address itself"
	case 4:
		return "no resources"
	case 5:
		return "mappings are not supported"
	}
	return fmt.Sprintf("result %d", code)
}

package tunnel

import (
	"errors"
	"net/netip"

	"golang.org/x/time/rate"
	"golang.zx2c4.com/wireguard/tun"
)

// waking makes the peers active that the packets of an interface are for, and
// refuses packets that are too large for the path of their peer. One goroutine
// of the device reads.
type waking struct {
	tun.Device
	roster   *roster
	activate func(PublicKey)
	sender   tun.Device // the interface itself: its answers pass no filter
	refusals *rate.Limiter

	last     netip.Addr // destination of the last packet: its peer is active, or there is none
	endpoint *Endpoint  // of that peer; nil: there is none
	changes  uint64     // of the roster at that time
}

// Read implements tun.Device.
func (w *waking) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := w.Device.Read(bufs, sizes, offset)
	changes := w.roster.changes.Load()
	for i := range n {
		packet := bufs[i][offset : offset+sizes[i]]
		to, failure := destination(packet)
		if failure != nil {
			continue
		}
		if to != w.last || changes != w.changes {
			w.endpoint = w.wake(to)
			w.last, w.changes = to, changes
		}
		if w.refuse(packet) {
			sizes[i] = 0 // the device skips it
		}
	}
	return n, err
}

// wake makes the peer active that packets to addr go to, and returns its endpoint.
func (w *waking) wake(addr netip.Addr) *Endpoint {
	m := w.roster.owner(addr)
	if m == nil {
		return nil
	}
	if !m.active.Load() {
		w.activate(m.peer.PublicKey)
	}
	return m.endpoint.Load()
}

var errNoPacket = errors.New("not an IP packet")

// destination returns where an IP packet goes (RFC 791, section 3.1; RFC 8200,
// section 3).
func destination(packet []byte) (netip.Addr, error) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(packet[16:20])), nil
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(packet[24:40])), nil
	}
	return netip.Addr{}, errNoPacket
}

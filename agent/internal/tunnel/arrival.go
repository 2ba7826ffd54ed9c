package tunnel

import (
	"net/netip"

	"golang.zx2c4.com/wireguard/conn"
)

// An arrival is the endpoint of one handshake initiation: it answers to where
// the message came from, so that cookies and the rate limit of the device are
// counted per true source, and hands everything else to the peer's endpoint.
type arrival struct {
	bind *Bind
	from origin
	peer *Endpoint // nil: the sender is not known (yet)
}

var _ conn.Endpoint = (*arrival)(nil)

func (a *arrival) ClearSrc() {
	if a.peer != nil {
		a.peer.ClearSrc()
	}
}

func (a *arrival) SrcToString() string { return "" }

func (a *arrival) DstToString() string {
	if a.peer != nil {
		return a.peer.name
	}
	return a.from.addr.String()
}

// DstToBytes returns the true source. Behind a relay it is the relayed address
// of the sender, or else all relayed peers would share one handshake budget.
func (a *arrival) DstToBytes() []byte {
	raw, err := a.from.addr.MarshalBinary()
	if err != nil {
		return nil
	}
	return raw
}

func (a *arrival) DstIP() netip.Addr { return a.from.addr.Addr() }

func (a *arrival) SrcIP() netip.Addr { return netip.Addr{} }

// send is called by the device with a cookie reply before it has authenticated
// anything, and with all else afterwards.
func (a *arrival) send(bufs [][]byte) error {
	first := bufs[0]
	if a.peer == nil || wireguardType(first) == messageCookie {
		return a.from.path(a.bind).transmit(bufs)
	}
	if len(bufs) != 1 || wireguardType(first) != messageResponse {
		return a.peer.send(bufs)
	}
	// The device has authenticated the peer: the way back is open here and now.
	if !a.peer.noteHandshake(first) {
		return nil
	}
	back := a.from.path(a.bind)
	before := a.peer.routes.Load()
	current := before.primary
	if current == nil {
		if a.peer.routes.CompareAndSwap(before, &routes{primary: back}) {
			a.peer.tellMoved()
		}
		a.bind.events.add(Event{Kind: Arrived, Peer: a.peer.key, Addr: a.from.addr, Relay: a.from.relay})
	} else if !current.matches(&a.from) {
		_ = current.send(bufs) // both ways: the copy is dropped, a loss costs 5 s
	}
	return back.send(bufs)
}

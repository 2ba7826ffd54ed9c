package connectivity

import (
	"fmt"
	"net/netip"
	"time"
)

// Channels of RFC 8656, section 12.
const (
	channelLifetime = 10 * time.Minute

	// channelRest follows on the lifetime: until then the relay may still have
	// packets under way by the binding that has expired.
	channelRest = 5 * time.Minute

	firstChannel = 0x4000
	lastChannel  = 0x4FFF
)

// channelsPerPeer bounds the numbers that one peer takes by changing its
// relayed address: there are 4,096 for all peers. One whose relay is lost again
// and again changes it every 30 s, which is as often as the bound allows.
const channelsPerPeer = 32

// channels are the numbers of an allocation. The zero value has all of them free.
//
//	free --number--> held by a peer's address --channelLifetime+channelRest after its last request--> free
type channels struct {
	byAddress map[netip.AddrPort]*channel
	unused    uint16 // how many were given out for the first time
}

type channel struct {
	number uint16
	holder string    // ID of the peer that it was chosen for
	until  time.Time // its address may count on it before; the number is free afterwards
}

// number returns the channel for address, and holds it. An address whose number
// nobody else has taken gets that one again.
func (c *channels) number(address netip.AddrPort, holder string, now time.Time) (uint16, error) {
	if held, ok := c.byAddress[address]; ok {
		held.extend(now)
		return held.number, nil
	}
	var held int
	var oldest netip.AddrPort // of those that are free
	for each, ch := range c.byAddress {
		switch {
		case now.Before(ch.until):
			if ch.holder == holder {
				held++
			}
		case !oldest.IsValid() || ch.until.Before(c.byAddress[oldest].until):
			oldest = each
		}
	}
	if held >= channelsPerPeer {
		return 0, fmt.Errorf("relay: the peer has had %d relayed addresses within %s; each change takes a channel for that long", held, channelLifetime+channelRest)
	}
	ch := &channel{holder: holder}
	switch {
	case oldest.IsValid():
		ch.number = c.byAddress[oldest].number
		delete(c.byAddress, oldest)
	case c.unused <= lastChannel-firstChannel:
		ch.number = firstChannel + c.unused
		c.unused++
	default:
		return 0, fmt.Errorf("relay: all %d channels of this allocation are in use; one is free %s after its last use", c.unused, channelLifetime+channelRest)
	}
	ch.extend(now)
	if c.byAddress == nil {
		c.byAddress = make(map[netip.AddrPort]*channel)
	}
	c.byAddress[address] = ch
	return ch.number, nil
}

func (ch *channel) extend(now time.Time) { ch.until = now.Add(channelLifetime + channelRest) }

// extend counts from now, when the last request for the channel of address has
// been made.
func (c *channels) extend(address netip.AddrPort, now time.Time) {
	if held, ok := c.byAddress[address]; ok {
		held.extend(now)
	}
}

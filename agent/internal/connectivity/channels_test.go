package connectivity

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// addressOf returns a relayed address, one for each number.
func addressOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), 1)
}

// A relay may bind a number to another address 5 min after the binding, which lasts 10 min.
func TestChannelNumbersAreUsedAgain(t *testing.T) {
	var c channels
	begin := time.Now()
	owners := map[uint16]netip.AddrPort{}
	take := func(n int, at time.Time) (uint16, error) {
		number, err := c.number(addressOf(n), fmt.Sprint("peer", n), at)
		if err == nil {
			owners[number] = addressOf(n)
		}
		return number, err
	}
	const all = lastChannel - firstChannel + 1
	for n := range all {
		if number, err := take(n, begin); err != nil || number < firstChannel || number > lastChannel {
			t.Fatalf("channel %d: %#x, %v", n, number, err)
		}
	}
	if len(owners) != all {
		t.Fatalf("%d numbers for %d addresses", len(owners), all)
	}
	used := begin.Add(time.Minute)
	c.extend(addressOf(7), used)
	if _, err := take(all, begin.Add(15*time.Minute-1)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a number is given to another address too soon: %v", err)
	}
	free := begin.Add(15 * time.Minute)
	for n := all; n < 2*all-1; n++ {
		number, err := take(n, free)
		if err != nil {
			t.Fatalf("channel %d: %v", n, err)
		}
		if owner := c.byAddress[addressOf(n)]; owner.number != number || len(c.byAddress) > all {
			t.Fatalf("channel %d is not that of its address", n)
		}
	}
	if _, err := take(2*all, used.Add(15*time.Minute-1)); err == nil {
		t.Error("the number of a binding that was renewed is given away too soon")
	}
	if again, err := take(7, used.Add(15*time.Minute)); err != nil || owners[again] != addressOf(7) {
		t.Errorf("the address has another number than before: %#x, %v", again, err)
	}
}

func TestOnePeerTakesFewChannels(t *testing.T) {
	var c channels
	begin := time.Now()
	for n := range channelsPerPeer {
		if _, err := c.number(addressOf(n), "hostile", begin.Add(time.Duration(n))); err != nil {
			t.Fatalf("channel %d: %v", n, err)
		}
	}
	for n := channelsPerPeer; n < 5000; n++ {
		if _, err := c.number(addressOf(n), "hostile", begin.Add(time.Second)); err == nil {
			t.Fatalf("the peer has %d channels", n)
		}
	}
	if _, err := c.number(addressOf(0), "hostile", begin.Add(time.Second)); err != nil {
		t.Errorf("an address that it had: %v", err)
	}
	if _, err := c.number(addressOf(9999), "other", begin.Add(time.Second)); err != nil {
		t.Errorf("another peer: %v", err)
	}
	if _, err := c.number(addressOf(5000), "hostile", begin.Add(15*time.Minute+1)); err != nil {
		t.Errorf("when its first has expired: %v", err)
	}
}

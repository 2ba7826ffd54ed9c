package tunnel

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// Packets over both versions of IP reach the address they are for, in any order.
func TestBothVersionsOfIPAreSentToTheRightAddress(t *testing.T) {
	s := newSockets()
	elsewhere := &conn.StdNetEndpoint{AddrPort: netip.MustParseAddrPort("[2001:db8::5]:9")}
	if err := s.Send([][]byte{{1}}, elsewhere); err == nil {
		t.Error("closed sockets send")
	}
	sinks := [2]net.PacketConn{}
	for i, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		sink, err := net.ListenPacket("udp", address)
		if err != nil {
			t.Skipf("this machine lacks a version of IP: %v", err)
		}
		defer sink.Close() //nolint:errcheck // read only
		if err := sink.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		sinks[i] = sink
	}
	for round := range 2 { // the device closes and opens its bind
		if _, _, err := s.Open(0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Open(0); err == nil {
			t.Error("open sockets are opened")
		}
		for i := range 50 {
			_ = s.Send([][]byte{{0}}, elsewhere) // there is no such host
			for _, sink := range sinks {
				to := &conn.StdNetEndpoint{AddrPort: netip.MustParseAddrPort(sink.LocalAddr().String())}
				if err := s.Send([][]byte{{byte(i)}}, to); err != nil {
					t.Fatalf("round %d: packet %d for %s: %v", round, i, to.AddrPort, err)
				}
				buf := make([]byte, 16)
				if n, _, err := sink.ReadFrom(buf); err != nil || n != 1 || buf[0] != byte(i) {
					t.Fatalf("round %d: packet %d did not reach %s: %v", round, i, to.AddrPort, err)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

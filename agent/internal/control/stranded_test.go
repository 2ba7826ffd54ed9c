package control

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

func TestConnectionsOfLostAddressesAreClosed(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	all := newConnections((&net.Dialer{}).DialContext)
	conn, err := all.DialContext(t.Context(), "tcp4", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	all.closeStranded(ownAddresses())
	if len(all.open) != 1 {
		t.Fatal("a connection from an address of the machine was closed")
	}
	all.closeStranded(func(netip.Addr) bool { return false })
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection of a lost address still reads: %v", err)
	}
	if len(all.open) != 0 {
		t.Errorf("%d closed connections are remembered", len(all.open))
	}
}

package mark

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/internal/namespacetest"
)

// TestSocketBearsTheMark runs in a namespace where marks need no root.
func TestSocketBearsTheMark(t *testing.T) {
	namespacetest.Run(t, namespacetest.Network, socketBearsTheMark)
}

func socketBearsTheMark(t *testing.T) {
	config := net.ListenConfig{Control: Socket}
	socket, err := config.ListenPacket(t.Context(), "udp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	raw, err := socket.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	if err := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK) }); err != nil {
		t.Fatal(err)
	}
	if err != nil || uint32(got) != Value {
		t.Errorf("the mark is %#x (%v), want %#x", got, err, Value)
	}
}

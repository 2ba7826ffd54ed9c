package tunnel

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// packet4 is an IPv4 packet that may not be broken up.
func packet4(size int, protocol byte, payload ...byte) []byte {
	b := make([]byte, size)
	b[0], b[6], b[8], b[9] = 0x45, mayNotFragment, 64, protocol
	b[2], b[3] = byte(size>>8), byte(size)
	copy(b[12:], []byte{10, 9, 0, 1, 10, 9, 0, 2})
	copy(b[20:], payload)
	return b
}

func packet6(size int, protocol byte, payload ...byte) []byte {
	b := make([]byte, size)
	b[0], b[6], b[7] = 0x60, protocol, 64
	b[4], b[5] = byte((size-40)>>8), byte(size-40)
	source, destination := netip.MustParseAddr("fd09::1").As16(), netip.MustParseAddr("fd09::2").As16()
	copy(b[8:], source[:])
	copy(b[24:], destination[:])
	copy(b[40:], payload)
	return b
}

func change(b []byte, at int, value ...byte) []byte {
	copy(b[at:], value)
	return b
}

func TestTooBig(t *testing.T) {
	const mtu = 1300
	for name, c := range map[string]struct {
		packet []byte
		mtu    int
		length int // of the answer without room; 0: none
	}{
		"IPv4":                          {packet4(1400, 6), mtu, longestError4},
		"IPv4, smaller than IPv6 has":   {packet4(1400, 17), 900, longestError4},
		"IPv4 that may be broken up":    {change(packet4(1400, 6), 6, 0), mtu, 0},
		"IPv4, a later fragment":        {change(packet4(1400, 6), 6, mayNotFragment, 7), mtu, 0},
		"IPv4 to a group":               {change(packet4(1400, 17), 16, 224), mtu, 0},
		"IPv4 from nobody":              {change(packet4(1400, 17), 12, 0, 0, 0, 0), mtu, 0},
		"IPv4, an echo":                 {packet4(1400, 1, 8), mtu, longestError4},
		"IPv4, an ICMP error":           {packet4(1400, 1, 3), mtu, 0},
		"IPv4 whose header is too long": {change(packet4(40, 6), 0, 0x4f), mtu, 0},
		"IPv6":                          {packet6(1400, 6), mtu, longestError6},
		"IPv6, smaller than it has":     {packet6(1400, 6), 1279, 0},
		"IPv6, an echo":                 {packet6(1400, 58, 128), mtu, longestError6},
		"IPv6, an ICMP error":           {packet6(1400, 58, 2), mtu, 0},
		"IPv6 to a group":               {change(packet6(1400, 17), 24, 0xff), mtu, 0},
		"no packet":                     {[]byte("x"), mtu, 0},
	} {
		answer := tooBig(c.packet, c.mtu)
		if c.length == 0 {
			if answer != nil {
				t.Errorf("%s: answered with %x", name, answer)
			}
			continue
		}
		if len(answer) != device.MessageTransportHeaderSize+c.length {
			t.Errorf("%s: %d bytes", name, len(answer))
			continue
		}
		checkTooBig(t, name, answer[device.MessageTransportHeaderSize:], c.packet, c.mtu)
	}
}

// checkTooBig reads an answer with another implementation.
func checkTooBig(t *testing.T, name string, answer, packet []byte, mtu int) {
	t.Helper()
	protocol, start := 58, header.IPv6MinimumSize
	ends := [2][]byte{answer[8:24], answer[24:40]}
	sent := [2][]byte{packet[8:24], packet[24:40]}
	sum := header.PseudoHeaderChecksum(protocolICMP6, header.IPv6(answer).SourceAddress(), header.IPv6(answer).DestinationAddress(), uint16(len(answer)-40))
	if packet[0]>>4 == 4 {
		protocol, start, sum = 1, header.IPv4MinimumSize, 0
		ends, sent = [2][]byte{answer[12:16], answer[16:20]}, [2][]byte{packet[12:16], packet[16:20]}
		if !header.IPv4(answer).IsValid(len(answer)) || !header.IPv4(answer).IsChecksumValid() {
			t.Errorf("%s: the header of IPv4 is not valid", name)
		}
	}
	if !bytes.Equal(ends[0], sent[1]) || !bytes.Equal(ends[1], sent[0]) {
		t.Errorf("%s: from %x to %x", name, ends[0], ends[1])
	}
	if got := checksum.Checksum(answer[start:], sum); got != 0xffff {
		t.Errorf("%s: the checksum adds up to %x", name, got)
	}
	m, err := icmp.ParseMessage(protocol, answer[start:])
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if got := int(answer[start+6])<<8 | int(answer[start+7]); got != mtu {
		t.Errorf("%s: next hop carries %d", name, got)
	}
	if protocol == 1 && (m.Code != fragmentationNeeded || answer[start] != 3) || protocol == 58 && answer[start] != 2 {
		t.Errorf("%s: type %v, code %d", name, m.Type, m.Code)
	}
	if quote := answer[start+8:]; !bytes.Equal(quote, packet[:len(quote)]) {
		t.Errorf("%s: quotes something else", name)
	}
}

func FuzzTooBig(f *testing.F) {
	f.Add(packet4(1400, 6), 1300)
	f.Add(packet6(1400, 17), 1300)
	f.Add(packet4(20, 1), 576)
	f.Add(packet6(40, 58), 1280)
	f.Fuzz(func(t *testing.T, packet []byte, mtu int) {
		answer := tooBig(packet, mtu&0xffff)
		if len(answer) > device.MessageTransportHeaderSize+longestError6 {
			t.Errorf("an answer of %d bytes", len(answer))
		}
		if answer != nil && tooBig(answer[device.MessageTransportHeaderSize:], 1) != nil {
			t.Error("an answer is answered")
		}
	})
}

// TestNarrowPathTellsTheStack sends a stream over a path that carries less than
// the tunnel: the sender's own TCP has to make its segments smaller.
func TestNarrowPathTellsTheStack(t *testing.T) {
	a, b := GenerateKey(), GenerateKey()
	bind, err := NewBind(BindConfig{Logger: slog.New(slog.DiscardHandler), PrivateKey: a})
	if err != nil {
		t.Fatal(err)
	}
	longest := &longestSend{Bind: bind.std}
	bind.std = longest
	left := newTestDeviceOn(t, bind, a, "10.9.0.1", nil, peerAt(b, "10.9.0.2"))
	right := newTestDevice(t, b, "10.9.0.2", nil, peerAt(a, "10.9.0.1"))
	const mtu = 896 // a multiple of 16, to which WireGuard pads
	path := left.Bind().DirectPath(loopback(right))
	path.SetMTU(mtu)
	left.Bind().Endpoint(b.Public()).Use(path, nil)
	right.Bind().Endpoint(a.Public()).Use(right.Bind().DirectPath(loopback(left)), nil)
	carry(t, left.Dial, right)
	t.Logf("the longest message has %d bytes", longest.bytes.Load())
	if longest.bytes.Load() > mtu+Overhead {
		t.Errorf("a message of %d bytes left on a path that carries %d", longest.bytes.Load(), mtu+Overhead)
	}
}

// longestSend remembers the largest message that was sent, but for handshakes.
type longestSend struct {
	conn.Bind
	bytes atomic.Int64
}

func (l *longestSend) Send(bufs [][]byte, to conn.Endpoint) error {
	for _, buf := range bufs {
		l.bytes.Store(max(l.bytes.Load(), int64(len(buf))))
	}
	return l.Bind.Send(bufs, to)
}

// carry sends 256 KiB over TCP.
func carry(t *testing.T, dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error), to *Device) {
	t.Helper()
	listener, err := to.Listen(netip.MustParseAddrPort("10.9.0.2:7000"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // read only
	sent := make([]byte, 256<<10)
	_, _ = rand.Read(sent)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	received := make(chan []byte, 1)
	go func() {
		defer close(received)
		c, err := listener.Accept()
		if err != nil {
			return
		}
		all, _ := io.ReadAll(c) // what is missing is noticed
		received <- all
	}()
	c, err := dial(ctx, netip.MustParseAddrPort("10.9.0.2:7000"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case all := <-received:
		if !bytes.Equal(all, sent) {
			t.Errorf("%d of %d bytes arrived", len(all), len(sent))
		}
	case <-ctx.Done():
		t.Fatal("the stream stalls")
	}
}

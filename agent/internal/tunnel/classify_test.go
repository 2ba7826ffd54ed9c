package tunnel

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"testing"

	"golang.zx2c4.com/wireguard/conn"
)

func testBind(t testing.TB) *Bind {
	t.Helper()
	b, err := NewBind(BindConfig{Logger: slog.New(slog.DiscardHandler), PrivateKey: GenerateKey()})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func transport(index uint32, size int) []byte {
	b := make([]byte, size)
	b[0] = messageTransport
	binary.LittleEndian.PutUint32(b[4:], index)
	return b
}

func stunMessage(kind uint16) []byte {
	b := make([]byte, stunHeaderSize)
	binary.BigEndian.PutUint16(b, kind)
	binary.BigEndian.PutUint32(b[4:], stunCookie)
	return b
}

func frame(channel uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, channel)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return append(b, payload...)
}

func TestClassify(t *testing.T) {
	cookieIndex := transport(0, 32)
	binary.BigEndian.PutUint32(cookieIndex[4:], stunCookie)
	for name, c := range map[string]struct {
		packet []byte
		want   class
	}{
		"empty":                               {nil, classNoise},
		"one byte":                            {[]byte{1}, classNoise},
		"transport":                           {transport(7, 32), classWireGuard},
		"transport, one byte short":           {transport(7, 31), classNoise},
		"session index equal to the cookie":   {cookieIndex, classWireGuard},
		"binding request":                     {stunMessage(0x0001), classSTUN},
		"binding response":                    {stunMessage(0x0101), classSTUN},
		"STUN without cookie":                 {make([]byte, 20), classNoise},
		"ChannelData":                         {frame(0x4000, []byte("x")), classChannel},
		"first byte beyond channels":          {frame(0x8000, []byte("x")), classNoise},
		"WireGuard type with a reserved byte": {append([]byte{1, 1, 0, 0}, make([]byte, 40)...), classNoise},
	} {
		if got := classify(c.packet); got != c.want {
			t.Errorf("%s: class %d, want %d", name, got, c.want)
		}
	}
}

var (
	relayAddr = netip.MustParseAddrPort("192.0.2.1:3478")
	peerAddr  = netip.MustParseAddrPort("198.51.100.7:50000")
)

func originOf(addr netip.AddrPort) *origin {
	return &origin{addr: addr, inner: &conn.StdNetEndpoint{AddrPort: addr}}
}

// place sorts one packet as if it had just arrived.
func place(b *Bind, packet []byte, from netip.AddrPort) ([]byte, conn.Endpoint) {
	buf := make([]byte, 2048)
	n := copy(buf, packet)
	s := sorter{bind: b, now: b.now()}
	size, ep := s.place(buf, n, originOf(from))
	return buf[:size], ep
}

func TestSTUNSlotIsEmptied(t *testing.T) {
	b := testBind(t)
	request := stunMessage(0x0001)
	if left, _ := place(b, request, peerAddr); len(left) != 0 {
		t.Errorf("the device would parse %d bytes of a STUN message", len(left))
	}
	m, err := b.ReadSTUN(t.Context())
	if err != nil || !bytes.Equal(m.Payload, request) || m.Addr != peerAddr || m.Relay != nil {
		t.Errorf("message %+v, %v", m, err)
	}
}

func TestFullSTUNQueueDropsAndCounts(t *testing.T) {
	b := testBind(t)
	for range stunQueue + 3 {
		place(b, stunMessage(0x0001), peerAddr)
	}
	if got := b.Drops().STUN; got != 3 {
		t.Errorf("%d dropped, want 3", got)
	}
}

func TestChannelDataOfARelayIsUnwrapped(t *testing.T) {
	b := testBind(t)
	e := b.Endpoint(GenerateKey().Public())
	e.mu.Lock()
	e.learn(77)
	e.mu.Unlock()
	r := b.OpenRelay(relayAddr, nil)
	path := r.Path(peerAddr, 0x4001)
	e.Use(path, nil)
	inner := transport(77, 48)

	left, ep := place(b, frame(0x4001, inner), relayAddr)
	if !bytes.Equal(left, inner) || ep != e {
		t.Errorf("got %d bytes for %v, want the packet for its peer", len(left), ep)
	}
	if _, ever := path.Received(); !ever {
		t.Error("the path does not know that it received")
	}
	if left, _ := place(b, frame(0x4001, inner), peerAddr); len(left) != 0 || b.Drops().UnknownRelay != 1 {
		t.Error("ChannelData from a stranger was opened")
	}
	if left, _ := place(b, frame(0x4001, frame(0x4001, inner)), relayAddr); len(left) != 0 {
		t.Error("a frame within a frame was opened")
	}
	short := frame(0x4001, inner)
	binary.BigEndian.PutUint16(short[2:], uint16(len(inner)+1))
	if left, _ := place(b, short, relayAddr); len(left) != 0 {
		t.Error("a frame longer than its datagram was opened")
	}
	place(b, frame(0x4001, stunMessage(0x0001)), relayAddr)
	if m, err := b.ReadSTUN(t.Context()); err != nil || m.Relay != r || m.Addr != peerAddr {
		t.Errorf("probe through the relay: %+v, %v", m, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := place(b, frame(0x4001, inner), relayAddr); len(left) != 0 {
		t.Error("a closed relay still delivers")
	}
}

func TestIndicationsCarryPacketsOfUnboundPeers(t *testing.T) {
	b := testBind(t)
	r := b.OpenRelay(relayAddr, nil)
	for _, peer := range []netip.AddrPort{peerAddr, netip.MustParseAddrPort("[2001:db8::7]:4242")} {
		inner := transport(5, 45) // needs padding
		sent := appendSendIndication(nil, peer, inner)
		binary.BigEndian.PutUint16(sent, typeDataIndication) // same attributes, other direction
		left, ep := place(b, sent, relayAddr)
		a, ok := ep.(*arrival)
		if !bytes.Equal(left, inner) || !ok || a.from.addr != peer || a.from.relay != r {
			t.Errorf("from %s: %d bytes, %+v", peer, len(left), ep)
		}
	}
}

func FuzzSort(f *testing.F) {
	indication := appendSendIndication(nil, peerAddr, transport(1, 32))
	binary.BigEndian.PutUint16(indication, typeDataIndication)
	for _, seed := range [][]byte{
		nil, transport(1, 32), stunMessage(1), frame(0x4000, transport(1, 40)), indication,
		append([]byte{1, 0, 0, 0}, make([]byte, initiationSize-4)...),
		{0x40, 0, 0xff, 0xff},
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	b := testBind(f)
	r := b.OpenRelay(relayAddr, nil)
	r.Path(peerAddr, 0x4000)
	f.Fuzz(func(t *testing.T, packet []byte, relayed bool) {
		from := peerAddr
		if relayed {
			from = relayAddr
		}
		if len(packet) > 2048 {
			return
		}
		left, ep := place(b, packet, from)
		if len(left) > len(packet) {
			t.Errorf("%d bytes became %d", len(packet), len(left))
		}
		if len(left) > 0 && (ep == nil || wireguardType(left) == 0) {
			t.Errorf("the device was given %x for %v", left, ep)
		}
		for len(b.stun) > 0 {
			<-b.stun
		}
	})
}

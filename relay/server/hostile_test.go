package server

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/internal/framing"
	"github.com/wattlenet/wattle/relay/internal/batch"
)

// longestChallenge answers a request without a credential. It and the success of
// a Binding request may be longer than what they answer, but never more than
// three times; see budget.
const longestChallenge = 3 * framing.STUNHeader

// Whoever has proved nothing gets no more bytes than he sends, but for an
// address and a challenge.
func TestStrangersGetNoMoreThanTheySend(t *testing.T) {
	relay := startRelay(t, nil)
	conn := dial(t, relay, "udp")
	closeLater(t, conn)
	to := net.UDPAddrFromAddrPort(relay.Addrs()[0])
	message := func(class stun.MessageClass, method stun.Method, setters ...stun.Setter) []byte {
		m, err := stun.Build(append([]stun.Setter{stun.TransactionID, stun.NewType(method, class)}, setters...)...)
		if err != nil {
			t.Fatal(err)
		}
		return m.Raw
	}
	forged := Credential{Username: "4102444800:acme.alice", Password: "guessed"}
	expired := NewCredential(testSecret, alice, time.Unix(1, 0))
	nobody := stun.RawAttribute{Type: stun.AttrMessageIntegrity, Value: make([]byte, 20)}
	cases := map[string]struct {
		raw  []byte
		most int // bytes of answers; 0: as many as raw has
	}{
		"binding":                   {message(stun.ClassRequest, stun.MethodBinding), longestChallenge},
		"allocate":                  {message(stun.ClassRequest, stun.MethodAllocate), longestChallenge},
		"an unknown, naked method":  {message(stun.ClassRequest, 0xABC), 0},
		"refresh":                   {message(stun.ClassRequest, stun.MethodRefresh), longestChallenge},
		"channel":                   {message(stun.ClassRequest, stun.MethodChannelBind, channelAttribute(0x4000)), longestChallenge},
		"permission":                {message(stun.ClassRequest, stun.MethodCreatePermission), longestChallenge},
		"data over TCP (RFC 6062)":  {message(stun.ClassRequest, stun.MethodConnect, nobody), 0},
		"an unknown method":         {message(stun.ClassRequest, 0xABC, nobody), 0},
		"forged credential":         {request(t, stun.MethodAllocate, forged), 0},
		"expired credential":        {request(t, stun.MethodAllocate, expired), 0},
		"nobody's integrity":        {message(stun.ClassRequest, stun.MethodAllocate, nobody), 0},
		"a long user name":          {message(stun.ClassRequest, stun.MethodAllocate, stun.NewUsername(string(bytes.Repeat([]byte("a"), 500))), nobody), 0},
		"an answer":                 {message(stun.ClassSuccessResponse, stun.MethodBinding), 0},
		"a refusal":                 {message(stun.ClassErrorResponse, stun.MethodAllocate), 0},
		"a binding indication":      {message(stun.ClassIndication, stun.MethodBinding), 0},
		"a send indication":         {message(stun.ClassIndication, stun.MethodSend, peerAddress(netip.MustParseAddrPort("198.51.100.1:9"))), 0},
		"a data indication":         {message(stun.ClassIndication, stun.MethodData), 0},
		"channel data":              {frame(0x4000, []byte("payload")), 0},
		"channel data, cut":         {[]byte{0x40, 0, 0xff, 0xff}, 0},
		"a cookie and no more":      {message(stun.ClassRequest, stun.MethodBinding)[:19], 0},
		"lengths that are not":      {[]byte("\x00\x01\xff\xff\x21\x12\xa4\x42............"), 0},
		"WireGuard":                 {append([]byte{1, 0, 0, 0}, make([]byte, 144)...), 0},
		"nothing":                   {nil, 0},
		"more than a message holds": {message(stun.ClassRequest, stun.MethodBinding, stun.RawAttribute{Type: stun.AttrSoftware, Value: make([]byte, 3000)}), 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := conn.WriteTo(c.raw, to); err != nil {
				t.Fatal(err)
			}
			// One socket is read in order: what comes before this answer is for c.
			fence, err := stun.Build(stun.TransactionID, stun.BindingRequest)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.WriteTo(fence.Raw, to); err != nil {
				t.Fatal(err)
			}
			got := bytesBefore(t, conn, fence.TransactionID)
			if most := max(c.most, len(c.raw)); got > most {
				t.Errorf("%d bytes answer %d, at most %d may", got, len(c.raw), most)
			}
		})
	}
	if got := relay.Stats().AllocationsMade; got != 0 {
		t.Errorf("strangers have made %d allocations", got)
	}
}

// bytesBefore counts what arrives before the answer to a request.
func bytesBefore(t *testing.T, conn net.PacketConn, fence [stun.TransactionIDSize]byte) (total int) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if n >= framing.STUNHeader && [stun.TransactionIDSize]byte(buffer[8:framing.STUNHeader]) == fence {
			return total
		}
		total += n
	}
}

// A flood from forged addresses neither grows the table for ever nor has it
// searched for each packet.
func TestForgedAddressesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{}
		address := func(i int) netip.Addr {
			return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(i))))
		}
		for i := range 2 * budgetSources {
			b.spend(address(i))
		}
		if len(b.due) > budgetSources+1 {
			t.Fatalf("%d addresses are remembered", len(b.due))
		}
		time.Sleep(2 * forgetEvery) // all have paid
		if !b.spend(address(1<<30)) || len(b.due) > 2 {
			t.Errorf("a table of %d whose addresses have all paid is not cleared for a new one", len(b.due))
		}
		searched := b.forgot
		for i := range 2 * budgetSources {
			b.spend(address(i))
		}
		if b.forgot != searched {
			t.Error("the table was searched twice at one moment")
		}
	})
}

func TestCrowd(t *testing.T) {
	c := newCrowd(8, nil)
	one, same, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("198.51.100.1")
	if !c.enter(one) || !c.enter(same) || c.enter(one) {
		t.Error("a subscriber has room for a quarter")
	}
	if !c.enter(other) {
		t.Error("one subscriber keeps another out")
	}
	c.leave(one)
	if !c.enter(same) {
		t.Error("who has left takes up room")
	}
	for i := range 5 {
		c.enter(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}))
	}
	if c.enter(netip.MustParseAddr("192.0.2.1")) {
		t.Error("there is room for more than all")
	}
}

// connectFrom opens a connection from another address of the loopback.
func connectFrom(t *testing.T, from string, to netip.AddrPort) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	conn, err := dialer.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the relay may have closed it first
	return conn
}

// expectClosed waits for the end of a connection.
func expectClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection stays open: %v", err)
	}
}

// One address that opens connections and says nothing takes a part of the room
// and little memory; who comes from elsewhere is served.
func TestSilentConnectionsAreBounded(t *testing.T) {
	relay := startRelay(t, nil)
	const source = "127.0.0.9"
	allocate(t, relay, "tcp", alice) // what the first one needs is not counted
	before := heap()
	for range maxStrangers / crowdShare {
		connectFrom(t, source, relay.Addrs()[0])
	}
	expectClosed(t, connectFrom(t, source, relay.Addrs()[0])) // all before it have been let in
	if got := relay.Stats().RefusedStrangers; got != 1 {
		t.Errorf("%d connections were refused, want 1", got)
	}
	if line := "wattle_relay_refused_connections_total 1\n"; !strings.Contains(metricsOf(relay), line) {
		t.Errorf("the metrics do not have %q", line)
	}
	// Both ends are in this process.
	if each := (int64(heap()) - int64(before)) / (maxStrangers / crowdShare); each > 24<<10 {
		t.Errorf("a silent connection takes %d bytes", each)
	}
	allocate(t, relay, "tcp", bob)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The same for handshakes of TLS that are not finished, and for requests of
// HTTP that do not come.
func TestHalfOpenTLSIsBounded(t *testing.T) {
	relay := startRelay(t, nil)
	const source = "127.0.0.9"
	at := relay.TLSAddrs()[0]
	config := &tls.Config{RootCAs: testRoots(t), ServerName: "relay.test", NextProtos: []string{"http/1.1"}}
	var idle []net.Conn
	for range 8 {
		conn := tls.Client(connectFrom(t, source, at), config)
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	for range maxHandshakes/crowdShare - len(idle) {
		connectFrom(t, source, at)
	}
	expectClosed(t, connectFrom(t, source, at))
	for _, network := range []string{"tls", "tls without ALPN", "websocket"} { // from another address
		allocate(t, relay, network, alice)
	}
	if err := idle[0].Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; { // the relay learns of it in its own time
		conn := tls.Client(connectFrom(t, source, at), config)
		if conn.HandshakeContext(t.Context()) == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("who has left takes up room")
		}
	}
}

// attributes are those that raw describes: type, length, value, and so on.
func attributes(raw []byte) (list []stun.Setter) {
	for len(raw) >= 3 {
		kind, n := stun.AttrType(binary.BigEndian.Uint16(raw)), int(raw[2])
		raw = raw[3:]
		n = min(n, len(raw))
		list = append(list, stun.RawAttribute{Type: kind, Value: raw[:n]})
		raw = raw[n:]
	}
	return list
}

// Whatever a client with a credential asks for is passed or answered, and what
// it is granted is in order.
func FuzzAuthenticated(f *testing.F) {
	xor := func(addr ...byte) []byte { // XOR-PEER-ADDRESS of port 9
		return append([]byte{0, 0x12, 8, 0, 1, 0x21, 0x1B}, addr...)
	}
	f.Add(uint16(stun.MethodAllocate), []byte{0, 0x19, 4, 17, 0, 0, 0})
	f.Add(uint16(stun.MethodAllocate), []byte{0, 0x17, 4, 2, 0, 0, 0, 0, 0x22, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(uint16(stun.MethodChannelBind), append([]byte{0, 0x0C, 4, 0x40, 0, 0, 0}, xor(0xE7, 0x21, 0xC0, 0x43)...))
	f.Add(uint16(stun.MethodCreatePermission), append(xor(0x5E, 0x12, 0xA4, 0x43), xor(1, 2, 3, 4)...))
	f.Add(uint16(stun.MethodRefresh), []byte{0, 0x0D, 4, 0, 0, 0, 0})
	f.Add(uint16(stun.MethodRefresh), []byte{0, 0x0D, 1, 0})
	f.Fuzz(func(t *testing.T, method uint16, raw []byte) {
		g := newGate()
		known := from(2)
		if err := g.ledger.reserve(known, alice); err != nil {
			t.Fatal(err)
		}
		m, err := stun.Build(append(append([]stun.Setter{stun.TransactionID, stun.NewType(stun.Method(method&0xFFF), stun.ClassRequest), testNonces.fresh(time.Now())}, attributes(raw)...),
			stun.NewRealm(Realm), stun.NewUsername(credentialOf(alice).Username),
			stun.NewLongTermIntegrity(credentialOf(alice).Username, Realm, credentialOf(alice).Password))...)
		if err != nil {
			t.Skip(err)
		}
		for _, tuple := range []fiveTuple{known, from(1)} {
			v := g.admit(m.Raw, tuple)
			if v.pass && v.answer != nil {
				t.Error("both passed and answered")
			}
			if v.then.grant == nil {
				continue
			}
			if c := v.then.grant.channel; c != 0 && (c < firstChannel || c > lastChannel) {
				t.Errorf("channel %#x was granted", c)
			}
			for _, peer := range v.then.grant.peers {
				if addr := peer.Addr(); addr != g.public && !g.destinations.permits(addr) {
					t.Errorf("a way to %s was granted", addr)
				}
			}
		}
		if len(g.ledger.tuples) != 1 { // one peer may have one here
			t.Errorf("%d allocations are reserved", len(g.ledger.tuples))
		}
	})
}

// Whatever pion seems to answer, only an allocation that was asked for, with a
// socket that was opened for it, comes to be.
func FuzzObserve(f *testing.F) {
	for _, port := range []int{4000, 4001} {
		m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassSuccessResponse),
			peerAddress(netip.AddrPortFrom(netip.MustParseAddr("203.0.113.1"), uint16(port))))
		if err != nil {
			f.Fatal(err)
		}
		binary.BigEndian.PutUint16(m.Raw[framing.STUNHeader:], uint16(stun.AttrXORRelayedAddress))
		f.Add(m.Raw)
	}
	f.Add([]byte{0x01, 0x09, 0, 0, 0x21, 0x12, 0xa4, 0x42, 12: 0, 19: 0})
	f.Add([]byte{0x01, 0x03})
	f.Fuzz(func(t *testing.T, raw []byte) {
		g := newGate()
		socket := &relayedSocket{port: 4000, public: g.public}
		g.ledger.sockets[socket.port].Store(socket)
		asked, stranger := from(1), from(2)
		if err := g.ledger.reserve(asked, alice); err != nil {
			t.Fatal(err)
		}
		if a := g.observe(raw, stranger, client{}, &pending{}); a != nil {
			t.Fatal("an allocation that nobody asked for")
		}
		then := pending{reserved: true}
		a := g.observe(raw, asked, client{}, &then)
		if a != nil && a.socket != nil && (a.socket != socket || a.relayed.Port() != socket.port || socket.owner.Load() != a) {
			t.Fatalf("allocation at %s without its socket", a.relayed)
		}
		g.settle(asked, &then)
		if claimed := a != nil && a.socket != nil; claimed != (g.ledger.find(asked) != nil) {
			t.Errorf("claimed: %t, in the ledger: %t", claimed, !claimed)
		}
	})
}

// Whatever datagrams come, one by one or joined by the kernel, from a client
// and from a stranger: pion is shown STUN of a sane length only.
func FuzzFront(f *testing.F) {
	f.Add(append(frame(0x4000, []byte("data")), frame(0x4001, []byte("more"))...), uint16(7))
	f.Add(request(f, stun.MethodAllocate, credentialOf(bob)), uint16(1500))
	f.Add(bytes.Repeat([]byte{0x40, 0, 0, 0}, 100), uint16(3))
	f.Add([]byte("\x00\x16\x00\x00\x21\x12\xa4\x42............"), uint16(19))
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = conn.Close() }) // nothing was sent that matters
	self := addrPort(conn.LocalAddr())     // answers go nowhere else
	f.Fuzz(func(t *testing.T, raw []byte, segment uint16) {
		g := newGate()
		front := &datagramFront{UDPConn: conn, gate: g, local: self, forward: newForwarder(g)}
		known := fiveTuple{local: self, client: self}
		if err := g.ledger.reserve(known, alice); err != nil {
			t.Fatal(err)
		}
		g.ledger.clients.put(g.ledger.find(known))
		stranger := netip.AddrPortFrom(self.Addr(), self.Port()^1)
		message := func(from netip.AddrPort) batch.Message {
			return batch.Message{From: from, Bytes: bytes.Clone(raw), Segment: int(segment) + 1}
		}
		front.in = &batch.Inbox{Messages: []batch.Message{message(self), message(stranger), message(self)}}
		front.forward.begin()
		shown := 0
		for {
			m := front.sort()
			if m == nil {
				break
			}
			if shown++; !stun.IsMessage(m) || len(m) > maxMessage || shown > 3*len(raw) {
				t.Fatalf("pion is shown % x", m)
			}
			g.settle(front.tuple, &front.then)
		}
		front.forward.flush()
	})
}

// A stream of WebSocket frames that carry garbage ends like any other.
func TestGarbageInWebSocketEndsIt(t *testing.T) {
	relay := startRelay(t, nil)
	conn := dialStream(t, relay, "websocket")
	t.Cleanup(func() { _ = conn.Close() }) // the relay has closed it
	if _, err := io.WriteString(conn, "\xff\xff\xff\xff"); err != nil {
		t.Fatal(err)
	}
	expectClosed(t, conn)
}

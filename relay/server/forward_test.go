package server

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/internal/framing"
)

// A bareClient speaks TURN byte by byte: what pion's client would not send can
// be tried with it, and what arrives is seen as it is on the wire.
type bareClient struct {
	t          testing.TB
	conn       net.PacketConn
	relay      *Server
	credential Credential
	nonce      stun.Nonce
	relayed    netip.AddrPort
}

// framed cuts a stream into frames. (Pion's own splitter waits for more than it
// needs when a frame is shorter than 9 bytes.)
type framed struct {
	net.Conn
	in *bufio.Reader
}

func (f *framed) ReadFrom(p []byte) (int, net.Addr, error) {
	head, err := f.in.Peek(framing.ChannelHeader)
	if err != nil {
		return 0, nil, err
	}
	n, err := framing.Length(head)
	if err != nil {
		return 0, nil, err
	}
	n, err = io.ReadFull(f.in, p[:n])
	return n, f.RemoteAddr(), err
}

func (f *framed) WriteTo(p []byte, _ net.Addr) (int, error) { return f.Write(p) }

func bare(t testing.TB, relay *Server, network string, holder Holder) *bareClient {
	t.Helper()
	c := &bareClient{t: t, relay: relay, credential: credentialOf(holder)}
	if network == "udp" {
		c.conn = dial(t, relay, network)
	} else {
		conn := dialStream(t, relay, network)
		c.conn = &framed{Conn: conn, in: bufio.NewReader(conn)}
	}
	t.Cleanup(func() { _ = c.conn.Close() }) // the relay may have closed it first
	transport := stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{protocolUDP, 0, 0, 0}}
	challenge := roundTrip(t, c.conn, relay, stun.NewType(stun.MethodAllocate, stun.ClassRequest), transport)
	if err := c.nonce.GetFrom(challenge); err != nil {
		t.Fatal(err)
	}
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(c.ask(stun.MethodAllocate, transport), stun.AttrXORRelayedAddress); err != nil {
		t.Fatal(err)
	}
	addr, _ := netip.AddrFromSlice(relayed.IP.To4())
	c.relayed = netip.AddrPortFrom(addr, uint16(relayed.Port))
	return c
}

// ask makes an authenticated request and returns the answer.
func (c *bareClient) ask(method stun.Method, attributes ...stun.Setter) *stun.Message {
	c.t.Helper()
	setters := append([]stun.Setter{stun.NewType(method, stun.ClassRequest)}, attributes...)
	return roundTrip(c.t, c.conn, c.relay, append(setters, c.nonce, stun.NewRealm(Realm), stun.NewUsername(c.credential.Username),
		stun.NewLongTermIntegrity(c.credential.Username, Realm, c.credential.Password))...)
}

// bind binds a channel and returns the code of a refusal, 0 for success.
func (c *bareClient) bind(number uint16, peer netip.AddrPort) stun.ErrorCode {
	c.t.Helper()
	return codeOf(c.ask(stun.MethodChannelBind, peerAddress(peer), channelAttribute(number)))
}

// channelAttribute is CHANNEL-NUMBER (RFC 8656, section 18.1).
func channelAttribute(number uint16) stun.Setter {
	return stun.RawAttribute{Type: stun.AttrChannelNumber, Value: binary.BigEndian.AppendUint32(nil, uint32(number)<<16)}
}

func (c *bareClient) mustBind(number uint16, peer netip.AddrPort) {
	c.t.Helper()
	if code := c.bind(number, peer); code != 0 {
		c.t.Fatalf("channel %#x to %s: %d", number, peer, code)
	}
}

func (c *bareClient) permit(peer netip.Addr) {
	c.t.Helper()
	if answer := c.ask(stun.MethodCreatePermission, peerAddress(netip.AddrPortFrom(peer, 0))); answer.Type.Class != stun.ClassSuccessResponse {
		c.t.Fatalf("permission for %s: %s", peer, answer)
	}
}

func (c *bareClient) write(raw []byte) {
	c.t.Helper()
	if _, err := c.conn.WriteTo(raw, net.UDPAddrFromAddrPort(c.relay.Addrs()[0])); err != nil {
		c.t.Fatal(err)
	}
}

// send sends payload on a channel.
func (c *bareClient) send(number uint16, payload []byte) {
	c.t.Helper()
	c.write(frame(number, payload))
}

func frame(number uint16, payload []byte) []byte {
	raw := binary.BigEndian.AppendUint16(nil, number)
	raw = binary.BigEndian.AppendUint16(raw, uint16(len(payload)))
	raw = append(raw, payload...)
	for len(raw)%4 != 0 {
		raw = append(raw, 0)
	}
	return raw
}

// receive returns the next message that arrives.
func (c *bareClient) receive() []byte {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	buffer := make([]byte, 2000)
	n, _, err := c.conn.ReadFrom(buffer)
	if err != nil {
		c.t.Fatal(err)
	}
	return buffer[:n]
}

// expectFrame checks that the next message is payload on a channel.
func (c *bareClient) expectFrame(number uint16, payload []byte) {
	c.t.Helper()
	got := c.receive()
	at, length, ok := parseChannelData(got)
	if !ok || at != number || !bytes.Equal(got[framing.ChannelHeader:framing.ChannelHeader+length], payload) {
		c.t.Fatalf("got % x…, want %d bytes on channel %#x", got[:min(len(got), 12)], len(payload), number)
	}
}

// expectIndication checks that the next message is payload without a channel.
func (c *bareClient) expectIndication(from netip.AddrPort, payload string) {
	c.t.Helper()
	m := &stun.Message{Raw: c.receive()}
	var peer stun.XORMappedAddress
	if err := m.Decode(); err != nil || m.Type != stun.NewType(stun.MethodData, stun.ClassIndication) || peer.GetFromAs(m, stun.AttrXORPeerAddress) != nil {
		c.t.Fatalf("got %s (%v), want a Data indication", m, err)
	}
	data, err := m.Get(stun.AttrData)
	if err != nil || string(data) != payload || peer.Port != int(from.Port()) {
		c.t.Fatalf("got %q from port %d (%v), want %q from %s", data, peer.Port, err, payload, from)
	}
}

var transports = [][2]string{{"udp", "udp"}, {"udp", "tcp"}, {"tcp", "udp"}, {"tcp", "tcp"}, {"tls", "websocket"}, {"websocket", "tls"}}

// Frames of every length pass between two channels in order, whatever carries
// the clients, and keep their length without the padding of streams.
func TestChannelsMeet(t *testing.T) {
	for _, pair := range transports {
		t.Run(pair[0]+" to "+pair[1], func(t *testing.T) {
			relay := startRelay(t, nil)
			a, b := bare(t, relay, pair[0], alice), bare(t, relay, pair[1], bob)
			a.mustBind(0x4001, b.relayed)
			b.mustBind(0x4FFF, a.relayed)
			payload := bytes.Repeat([]byte("relayed "), 200)
			for i := range 300 { // in steps, so that no socket buffer of a test machine overflows
				size := i * 5 % 1451
				binary.BigEndian.PutUint32(payload, uint32(i))
				a.send(0x4001, payload[:size])
				b.expectFrame(0x4FFF, payload[:size])
				b.send(0x4FFF, payload[:size])
				a.expectFrame(0x4001, payload[:size])
			}
		})
	}
}

// A train of equal frames, with a shorter one at its end, arrives whole.
func TestTrainsPass(t *testing.T) {
	for _, pair := range transports {
		t.Run(pair[0]+" to "+pair[1], func(t *testing.T) {
			relay := startRelay(t, nil)
			a, b := bare(t, relay, pair[0], alice), bare(t, relay, pair[1], bob)
			a.mustBind(0x4000, b.relayed)
			b.mustBind(0x4000, a.relayed)
			const frames = 40
			for i := range frames {
				a.send(0x4000, bytes.Repeat([]byte{byte(i)}, 1000))
			}
			a.send(0x4000, []byte("the end"))
			for i := range frames {
				b.expectFrame(0x4000, bytes.Repeat([]byte{byte(i)}, 1000))
			}
			b.expectFrame(0x4000, []byte("the end"))
			a.ask(stun.MethodRefresh) // its reader has counted what was before
			want := Stats{PacketsToPeers: frames + 1, PacketsFromPeers: frames + 1, BytesToPeers: frames*1000 + 7, BytesFromPeers: frames*1000 + 7}
			got := relay.Stats()
			if got.PacketsToPeers != want.PacketsToPeers || got.BytesToPeers != want.BytesToPeers ||
				got.PacketsFromPeers != want.PacketsFromPeers || got.BytesFromPeers != want.BytesFromPeers || got.DroppedPackets != 0 {
				t.Errorf("stats: %+v", got)
			}
		})
	}
}

// What comes right behind a ChannelBind, before its answer, finds the channel.
func TestDataRightBehindChannelBind(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			relay := startRelay(t, nil)
			a, b := bare(t, relay, network, alice), bare(t, relay, "udp", bob)
			b.mustBind(0x4000, a.relayed)
			request, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodChannelBind, stun.ClassRequest), peerAddress(b.relayed),
				stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{0x40, 0x02, 0, 0}},
				a.nonce, stun.NewRealm(Realm), stun.NewUsername(a.credential.Username),
				stun.NewLongTermIntegrity(a.credential.Username, Realm, a.credential.Password))
			if err != nil {
				t.Fatal(err)
			}
			a.write(request.Raw)
			a.send(0x4002, []byte("at once"))
			b.expectFrame(0x4000, []byte("at once"))
		})
	}
}

// Without a channel at one end its client gets Data indications, if it has
// permitted the relay's address; else nothing.
func TestMixedForms(t *testing.T) {
	for _, pair := range transports {
		t.Run(pair[0]+" to "+pair[1], func(t *testing.T) {
			relay := startRelay(t, nil)
			a, b := bare(t, relay, pair[0], alice), bare(t, relay, pair[1], bob)
			a.mustBind(0x4000, b.relayed)
			a.send(0x4000, []byte("not permitted"))
			a.ask(stun.MethodRefresh) // the relay has seen what was before
			b.permit(a.relayed.Addr())
			a.send(0x4000, []byte("permitted"))
			b.expectIndication(a.relayed, "permitted")
			indication, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodSend, stun.ClassIndication), peerAddress(a.relayed),
				stun.RawAttribute{Type: stun.AttrData, Value: []byte("and back")})
			if err != nil {
				t.Fatal(err)
			}
			b.write(indication.Raw)
			a.expectFrame(0x4000, []byte("and back"))
			if got := relay.Stats().DroppedPackets; got != 1 {
				t.Errorf("%d packets were dropped, want 1", got)
			}
		})
	}
}

// Peers that are not on this relay are reached through the relayed socket, by
// channel and by indication.
func TestForeignPeers(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
			if err != nil {
				t.Skip("no second loopback address here: " + err.Error())
			}
			closeLater(t, peer)
			stranger, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 3)})
			if err != nil {
				t.Fatal(err)
			}
			closeLater(t, stranger)
			relay := startRelay(t, func(c *Config) { c.AllowedPeerNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")} })
			a := bare(t, relay, network, alice)
			at := addrPort(peer.LocalAddr())
			to := net.UDPAddrFromAddrPort(a.relayed)
			a.permit(at.Addr())
			if _, err := stranger.WriteTo([]byte("from nobody permitted"), to); err != nil {
				t.Fatal(err)
			}
			if _, err := peer.WriteTo([]byte("without a channel"), to); err != nil {
				t.Fatal(err)
			}
			a.expectIndication(at, "without a channel")
			a.mustBind(0x4123, at)
			for i := range 200 {
				payload := bytes.Repeat([]byte{byte(i)}, i*7%1400)
				a.send(0x4123, payload)
				got := make([]byte, 2000)
				if err := peer.SetReadDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				n, from, err := peer.ReadFrom(got)
				if err != nil || !bytes.Equal(got[:n], payload) || addrPort(from) != a.relayed {
					t.Fatalf("packet %d: %d bytes from %s, %v; want %d from %s", i, n, from, err, len(payload), a.relayed)
				}
				if len(payload) == 0 {
					continue // nothing to come back: an empty datagram has no message
				}
				if _, err := peer.WriteTo(payload, to); err != nil {
					t.Fatal(err)
				}
				a.expectFrame(0x4123, payload)
			}
		})
	}
}

// Frames that are none, channels that nobody has bound and clients that nobody
// knows cost a counter each and nothing else.
func TestBadFramesAreDropped(t *testing.T) {
	relay := startRelay(t, nil)
	a, b := bare(t, relay, "udp", alice), bare(t, relay, "udp", bob)
	a.mustBind(0x4000, b.relayed)
	b.mustBind(0x4000, a.relayed)
	bad := [][]byte{
		{0x40},
		{0x40, 0, 0},
		{0x40, 0, 0, 9, 1, 2}, // cut off
		frame(0x4001, []byte("not bound")),
		append(frame(0x4000, []byte("four")), 1, 2, 3, 4), // longer than its padding
		frame(0x5000, []byte("no channel number")), frame(0x7FFF, []byte("nor this")),
	}
	for _, raw := range bad {
		a.write(raw)
	}
	stranger := dial(t, relay, "udp")
	closeLater(t, stranger)
	if _, err := stranger.WriteTo(frame(0x4000, []byte("who?")), net.UDPAddrFromAddrPort(relay.Addrs()[0])); err != nil {
		t.Fatal(err)
	}
	a.send(0x4000, []byte("good"))
	b.expectFrame(0x4000, []byte("good"))
	a.ask(stun.MethodRefresh) // its reader has counted what was before
	stunLike(t, stranger, relay)
	if got, want := relay.Stats().DroppedPackets, uint64(len(bad)+1); got != want {
		t.Errorf("%d packets were dropped, want %d", got, want)
	}
}

// stunLike asks for an address: when the answer is there, the relay has seen
// what was sent before.
func stunLike(t *testing.T, conn net.PacketConn, relay *Server) {
	t.Helper()
	roundTrip(t, conn, relay, stun.BindingRequest)
}

// RFC 8656, section 12: a number is for one peer and a peer has one number.
func TestChannelBindIsChecked(t *testing.T) {
	relay := startRelay(t, nil)
	a, b := bare(t, relay, "udp", alice), bare(t, relay, "udp", bob)
	a.mustBind(0x4000, b.relayed)
	for _, test := range []struct {
		what   string
		number uint16
		peer   netip.AddrPort
		want   stun.ErrorCode
	}{
		{"again", 0x4000, b.relayed, 0},
		{"the number for another", 0x4000, a.relayed, stun.CodeBadRequest},
		{"another number", 0x4001, b.relayed, stun.CodeBadRequest},
		{"below the range", 0x3FFF, a.relayed, stun.CodeBadRequest},
		{"above the range", 0x5000, a.relayed, stun.CodeBadRequest},
		{"loopback", 0x4002, netip.MustParseAddrPort("127.0.0.9:9"), stun.CodeForbidden},
		{"another peer", 0x4002, netip.MustParseAddrPort("198.51.100.1:9"), 0},
	} {
		if got := a.bind(test.number, test.peer); got != test.want {
			t.Errorf("%s: %d, want %d", test.what, got, test.want)
		}
	}
}

// Each client meets one queue, whichever the kernel has chosen for it.
func TestManyClientsOnSeveralQueues(t *testing.T) {
	relay := startRelay(t, func(c *Config) { c.Queues = 4 })
	hub := bare(t, relay, "udp", alice)
	for i := range 24 {
		number := uint16(firstChannel + i)
		c := bare(t, relay, "udp", Holder{Account: alice.Account, Peer: fmt.Sprint("peer", i)})
		c.mustBind(0x4000, hub.relayed)
		hub.mustBind(number, c.relayed)
		hub.send(number, []byte("hello"))
		c.expectFrame(0x4000, []byte("hello"))
		c.send(0x4000, []byte("hello back"))
		hub.expectFrame(number, []byte("hello back"))
	}
}

func TestBandwidth(t *testing.T) {
	for name, c := range map[string]struct {
		quotas Quotas
		limit  limit
		other  Holder // whom it does not limit
	}{
		"of a peer":     {Quotas{PerPeer: Quota{Bandwidth: 10_000}}, peerBandwidth, bob},
		"of an account": {Quotas{PerAccount: Quota{Bandwidth: 10_000}}, accountBandwidth, mallory},
	} {
		t.Run(name, func(t *testing.T) {
			relay := startRelay(t, func(config *Config) { config.Quotas = c.quotas })
			a, b := bare(t, relay, "udp", alice), bare(t, relay, "udp", bob)
			a.mustBind(0x4000, b.relayed)
			b.mustBind(0x4000, a.relayed)
			const sent = 40
			for range sent {
				a.send(0x4000, bytes.Repeat([]byte("x"), 1000))
			}
			from, to := bare(t, relay, "udp", c.other), bare(t, relay, "udp", Holder{c.other.Account, "another"})
			from.mustBind(0x4000, to.relayed)
			to.mustBind(0x4000, from.relayed)
			from.send(0x4000, []byte("others are not limited by it"))
			to.expectFrame(0x4000, []byte("others are not limited by it"))
			a.ask(stun.MethodRefresh)
			if beyond := relay.Stats().Beyond[c.limit]; beyond == 0 || beyond > sent-10 {
				t.Errorf("%d of %d packets were beyond 10 kB/s", beyond, sent)
			}
		})
	}
}

// Channels count until they expire or their allocation ends, and one that is
// kept counts once.
func TestChannelQuota(t *testing.T) {
	for name, c := range map[string]struct {
		quotas Quotas
		second Holder
		limit  limit
		says   string
	}{
		"of a peer":     {Quotas{PerPeer: Quota{Channels: 3}}, alice, peerChannels, "this machine's quota of channels at this relay is used up: 3"},
		"of an account": {Quotas{PerAccount: Quota{Channels: 3}}, bob, accountChannels, "the account's quota of channels at this relay is used up: 3"},
	} {
		t.Run(name, func(t *testing.T) {
			relay := startRelay(t, func(config *Config) { config.Quotas = c.quotas })
			a, b := bare(t, relay, "udp", alice), bare(t, relay, "udp", c.second)
			peer := func(n byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, n}), 1) }
			a.mustBind(0x4000, peer(1))
			a.mustBind(0x4001, peer(2))
			b.mustBind(0x4000, peer(3))
			b.mustBind(0x4000, peer(3)) // it is kept
			answer := b.ask(stun.MethodChannelBind, channelAttribute(0x4001), peerAddress(peer(4)))
			var refusal stun.ErrorCodeAttribute
			if err := refusal.GetFrom(answer); err != nil || refusal.Code != stun.CodeInsufficientCapacity || string(refusal.Reason) != c.says {
				t.Fatalf("a fourth channel: %s, %v", refusal, err)
			}
			if got := relay.Stats().Beyond[c.limit]; got != 1 {
				t.Errorf("%d requests were counted, want 1", got)
			}
			a.ask(stun.MethodRefresh, stun.RawAttribute{Type: stun.AttrLifetime, Value: make([]byte, 4)}) // the end
			b.mustBind(0x4001, peer(4))
		})
	}
}

// An allocation that goes on gives back the channels that have expired.
func TestExpiredChannelsAreGivenBack(t *testing.T) {
	use := newUsage(Quota{Channels: 1}, ofPeer)
	a := &allocation{uses: []*usage{use}}
	first := &grant{to: a, channel: 0x4000, peers: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.1:1")}}
	other := &grant{to: a, channel: 0x4001, peers: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.2:1")}}
	first.apply(0)
	expired := instant(channelLifetime)
	if a.prune(expired - 1); first.room(expired-1) != nil || other.room(expired-1) == nil {
		t.Error("a channel that stands is kept, and takes up the room of another")
	}
	if a.prune(expired + pruneEvery); other.room(expired) != nil {
		t.Error("one that has expired takes up room")
	}
	other.apply(expired + pruneEvery)
	if a.bindings.end(); use.channels.Load() != 1 {
		t.Errorf("%d channels are counted, want 1", use.channels.Load())
	}
	if first.apply(expired + pruneEvery); use.channels.Load() != 1 {
		t.Error("an allocation that has ended got a channel")
	}
}

func TestMeter(t *testing.T) {
	m := &meter{rate: 1000}
	at := instant(5 * time.Second)
	if !m.spend(1000, at) || m.spend(1, at) {
		t.Error("a second's worth is the most that can be spent at once")
	}
	if at += instant(time.Second / 2); !m.spend(500, at) || m.spend(1, at) {
		t.Error("half a second later half of it is there again")
	}
	if !(&meter{}).spend(1<<30, at) {
		t.Error("no rate is a limit")
	}
}

func TestBindingsExpire(t *testing.T) {
	a := &allocation{}
	peer, other := netip.MustParseAddrPort("198.51.100.1:1"), netip.MustParseAddrPort("198.51.100.2:2")
	(&grant{to: a, channel: 0x4000, peers: []netip.AddrPort{peer}}).apply(0)
	v := a.bindings.load()
	fiveMinutes, tenMinutes := int64(permissionLifetime), int64(channelLifetime)
	if v.numberOf(peer, tenMinutes-1) != 0x4000 || v.numberOf(peer, tenMinutes) != 0 || v.channel(0x4000, tenMinutes) != nil {
		t.Error("a channel lives for ten minutes")
	}
	if !v.permits(peer.Addr(), fiveMinutes-1) || v.permits(peer.Addr(), fiveMinutes) {
		t.Error("its permission lives for five minutes")
	}
	(&grant{to: a, peers: []netip.AddrPort{peer}}).apply(fiveMinutes)
	if !v.permits(peer.Addr(), 2*fiveMinutes-1) {
		t.Error("a refreshed permission is not seen by readers of the old view")
	}
	(&grant{to: a, channel: 0x4000, peers: []netip.AddrPort{other}}).apply(tenMinutes)
	if v = a.bindings.load(); v.channel(0x4000, tenMinutes).peer != other || len(v.byPeer) != 1 || len(v.permitted) != 1 {
		t.Errorf("what has expired is kept: %+v", v)
	}
}

func TestPermissionsAreBounded(t *testing.T) {
	a := &allocation{}
	for i := range maxPermissions {
		g := &grant{to: a, peers: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 1)}}
		if g.room(0) != nil {
			t.Fatalf("no room for permission %d", i)
		}
		g.apply(0)
	}
	one := &grant{to: a, peers: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.77:1")}}
	if one.room(1) == nil {
		t.Error("there is room for one more than the limit")
	}
	if one.room(int64(permissionLifetime)) != nil {
		t.Error("those that have expired take up room")
	}
}

// Whatever a client that holds an allocation sends, nothing panics, and what
// leaves is never longer than what came.
func FuzzForward(f *testing.F) {
	f.Add(frame(0x4000, []byte("payload")))
	f.Add(frame(0x4001, nil))
	f.Add([]byte{0x40, 0, 0xff, 0xff})
	f.Add([]byte{0x4f})
	g := newGate()
	peer := netip.MustParseAddrPort("203.0.113.1:4000")
	to := &allocation{holder: alice, relayed: peer, client: client{stream: &stream{out: framing.NewQueue(queueBytes)}}}
	from := &allocation{holder: alice, relayed: netip.MustParseAddrPort("203.0.113.1:4001")}
	socket := &relayedSocket{}
	socket.owner.Store(to)
	g.ledger.sockets[peer.Port()].Store(socket)
	(&grant{to: from, channel: 0x4000, peers: []netip.AddrPort{peer}}).apply(now())
	(&grant{to: to, channel: 0x4abc, peers: []netip.AddrPort{from.relayed}}).apply(now())
	forward := newForwarder(g)
	var writer framing.Writer
	f.Fuzz(func(t *testing.T, raw []byte) {
		forward.begin()
		forward.fromClient(from, bytes.Clone(raw))
		forward.fromClient(nil, bytes.Clone(raw))
		forward.flush()
		// The mark shows where what was forwarded ends.
		mark := []byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 12: 0, 19: 0}
		to.client.stream.out.Push(nil, mark, true)
		var left collected
		if err := writer.Write(to.client.stream.out, &left, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		var want []byte
		if number, length, ok := parseChannelData(raw); ok && number == 0x4000 {
			want = frame(0x4abc, raw[framing.ChannelHeader:framing.ChannelHeader+length])
			want = append(want, make([]byte, -len(want)&3)...)
		}
		if !bytes.Equal(left.Bytes(), append(want, mark...)) {
			t.Fatalf("% x became % x", raw, left.Bytes())
		}
	})
}

// collected is a connection that keeps what is written to it.
type collected struct {
	net.Conn
	bytes.Buffer
}

func (c *collected) Write(p []byte) (int, error) { return c.Buffer.Write(p) }
func (c *collected) Read(p []byte) (int, error)  { return c.Buffer.Read(p) }

// BenchmarkSwitch is what one frame between two channels costs without its
// share of the system calls.
func BenchmarkSwitch(b *testing.B) {
	g := newGate()
	peer := netip.MustParseAddrPort("203.0.113.1:4000")
	to := &allocation{holder: alice, relayed: peer, client: client{stream: &stream{out: framing.NewQueue(queueBytes)}}}
	from := &allocation{holder: alice, relayed: netip.MustParseAddrPort("203.0.113.1:4001")}
	socket := &relayedSocket{}
	socket.owner.Store(to)
	g.ledger.sockets[peer.Port()].Store(socket)
	(&grant{to: from, channel: 0x4000, peers: []netip.AddrPort{peer}}).apply(now())
	(&grant{to: to, channel: 0x4000, peers: []netip.AddrPort{from.relayed}}).apply(now())
	forward := newForwarder(g)
	train := make([][]byte, 40)
	for i := range train {
		train[i] = frame(0x4000, bytes.Repeat([]byte("x"), 1300))
	}
	var writer framing.Writer
	var left collected
	b.ReportAllocs()
	for b.Loop() {
		forward.begin()
		for _, raw := range train {
			forward.fromClient(from, raw)
		}
		forward.flush()
		left.Reset()
		if err := writer.Write(to.client.stream.out, &left, func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

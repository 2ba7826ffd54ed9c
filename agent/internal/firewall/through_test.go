package firewall

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/table"
	"github.com/wattlenet/wattle/internal/verdict/verdicttest"
)

// patience bounds what a test waits for; it is never the measure of anything.
const patience = time.Minute

// telling reports the refusals of a filter.
type telling struct {
	*Filter
	refused chan packet
}

func (f telling) Inbound(raw []byte) bool  { return f.tell(raw, f.Filter.Inbound(raw)) }
func (f telling) Outbound(raw []byte) bool { return f.tell(raw, f.Filter.Outbound(raw)) }

func (f telling) tell(raw []byte, passed bool) bool {
	var p, inner packet
	if !passed && parse(raw, &p, &inner) {
		select {
		case f.refused <- p:
		default: // nobody waits for so many
		}
	}
	return passed
}

// end is a machine in netstack mode.
type end struct {
	device *tunnel.Device
	key    tunnel.PrivateKey
	filter telling
}

// newEnds makes two machines that are connected, without addresses.
func newEnds(t *testing.T) (a, b end) {
	t.Helper()
	refused := make(chan packet, 100)
	for _, e := range []*end{&a, &b} {
		e.key, e.filter = tunnel.GenerateKey(), telling{NewFilter(), refused}
		var err error
		e.device, err = tunnel.New(tunnel.Config{
			Logger: slog.New(slog.DiscardHandler), PrivateKey: e.key, Mode: tunnel.ModeNetstack, Filter: e.filter,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.device.Close() })
	}
	for _, pair := range [][2]end{{a, b}, {b, a}} {
		bind := pair[0].device.Bind()
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), pair[1].device.Bind().Port())
		bind.Endpoint(pair[1].key.Public()).Use(bind.DirectPath(at), nil)
	}
	return a, b
}

// be gives a machine the addresses of a peer of the recorded cases, and tells it
// who the other is.
func (e end) be(t *testing.T, self, other uint32, peer tunnel.PrivateKey) {
	t.Helper()
	mine, theirs := addressOf(self), addressOf(other)
	err := e.device.Set(t.Context(), tunnel.Settings{
		Addresses: []netip.Prefix{netip.PrefixFrom(mine.IPv4, 16), netip.PrefixFrom(mine.IPv6, 64)},
		Peers: table.Of(map[tunnel.PublicKey]tunnel.Peer{peer.Public(): {PublicKey: peer.Public(), AllowedIPs: []netip.Prefix{
			netip.PrefixFrom(theirs.IPv4, 32), netip.PrefixFrom(theirs.IPv6, 128),
		}}}),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// send begins what a recorded packet begins, with the real stack at both ends,
// and reports true when it arrived and false when one of the filters refused it.
func send(t *testing.T, a, b end, p verdicttest.Packet) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	src, dst := addressOf(p.Source).IPv4, addressOf(p.Destination).IPv4
	if p.Protocol == protoICMPv6 {
		src, dst = addressOf(p.Source).IPv6, addressOf(p.Destination).IPv6
	}
	arrived, end := begin(ctx, t, a, b, p.Protocol, netip.AddrPortFrom(dst, p.Port))
	defer end()
	for {
		select {
		case refused := <-a.filter.refused:
			if refused.src == src && refused.dst == dst && refused.proto == p.Protocol && (p.Port == 0 || refused.dport == p.Port) {
				return false
			}
		case err := <-arrived:
			if err != nil {
				t.Fatalf("packet %+v neither arrived nor was refused: %v", p, err)
			}
			return true
		}
	}
}

// begin opens the flow and tells when its first packet has arrived. The caller
// calls end.
func begin(ctx context.Context, t *testing.T, a, b end, protocol uint8, to netip.AddrPort) (told <-chan error, end func()) {
	t.Helper()
	arrived := make(chan error, 1)
	end = func() {}
	switch protocol {
	case protoTCP:
		listener, err := b.device.Listen(to)
		if err != nil {
			t.Fatal(err)
		}
		end = func() { _ = listener.Close() }
		go func() {
			connection, err := a.device.Dial(ctx, to)
			if err == nil {
				_ = connection.Close()
			}
			arrived <- err
		}()
	case protoUDP:
		packets, err := b.device.ListenPacket(to)
		if err != nil {
			t.Fatal(err)
		}
		connection, err := a.device.DialUDP(to)
		if err != nil {
			t.Fatal(err)
		}
		end = func() { _, _ = packets.Close(), connection.Close() }
		go func() {
			_, _, err := packets.ReadFrom(make([]byte, 100))
			arrived <- err
		}()
		if _, err := io.WriteString(connection, "datagram"); err != nil {
			t.Fatal(err)
		}
	default:
		go func() {
			_, err := a.device.Ping(ctx, to.Addr())
			arrived <- err
		}()
	}
	return arrived, end
}

// TestNetstackGivesTheRecordedVerdicts runs the cases through two machines
// without an interface: what is sent by one stack arrives at the other or not.
func TestNetstackGivesTheRecordedVerdicts(t *testing.T) {
	for _, c := range verdicttest.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			a, b := newEnds(t)
			for _, p := range c.Packets {
				if p.Source == p.Destination || p.Protocol == 47 || p.Protocol != protoICMP && p.Protocol != protoICMPv6 && p.Port == 0 {
					continue // stays inside, or no socket sends it; the test through TUN does
				}
				a.be(t, p.Source, p.Destination, b.key)
				b.be(t, p.Destination, p.Source, a.key)
				for self, e := range map[uint32]end{p.Source: a, p.Destination: b} {
					if err := e.filter.Set(t.Context(), configFor(c, self)); err != nil {
						t.Fatal(err)
					}
				}
				if got := send(t, a, b, p); got != p.Allowed {
					t.Errorf("packet %+v: arrived is %v, want %v", p, got, p.Allowed)
				}
			}
		})
	}
}

// TestNetstackOpensOneDirection: what b permits a, it does not permit itself,
// and the answers ride on the flow until its rule goes.
func TestNetstackOpensOneDirection(t *testing.T) {
	a, b := newEnds(t)
	a.be(t, 1, 2, b.key)
	b.be(t, 2, 1, a.key)
	oneWay := func(self uint32, rules ...api.CompiledRule) Config {
		return Config{
			Self: self, Peers: table.Of(map[uint32]Addresses{1: addressOf(1), 2: addressOf(2)}),
			Sets:  table.Of(map[string]*roaring.Bitmap{"a": roaring.BitmapOf(1), "b": roaring.BitmapOf(2)}),
			Rules: rules,
		}
	}
	rule := api.CompiledRule{Id: "r", Source: "a", Destination: "b", Action: "accept", Protocol: "tcp", Ports: &[]api.PortRange{{Start: 80, End: 90}}}
	leaves, enters := rule, rule
	leaves.Direction, enters.Direction = "out", "in"
	set := func(e end, c Config) {
		if err := e.filter.Set(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	set(a, oneWay(1, leaves))
	set(b, oneWay(2, enters))

	listener, err := b.device.Listen(netip.AddrPortFrom(addressOf(2).IPv4, 85))
	if err != nil {
		t.Fatal(err)
	}
	connection, err := a.device.Dial(t.Context(), netip.AddrPortFrom(addressOf(2).IPv4, 85))
	if err != nil {
		t.Fatal(err)
	}
	other, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range [][2]io.ReadWriter{{connection, other}, {other, connection}} {
		if _, err := io.WriteString(way[0], "text"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way[1], make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	if send(t, b, a, verdicttest.Packet{Source: 2, Destination: 1, Protocol: protoTCP, Port: 85}) {
		t.Error("the other direction is open")
	}

	// b alone hears that the rule went: its next packet is refused at once, and
	// so is what a sends.
	set(b, oneWay(2))
	for _, w := range []io.Writer{other, connection} {
		if _, err := io.WriteString(w, "late"); err != nil {
			t.Fatal(err)
		}
		waitRefused(t, b)
	}
}

// waitRefused waits until a packet of the flow on port 85 is refused.
func waitRefused(t *testing.T, e end) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case p := <-e.filter.refused:
			if p.sport == 85 || p.dport == 85 {
				return
			}
		case <-timer.C:
			t.Fatal("a flow without its rule is not refused")
		}
	}
}

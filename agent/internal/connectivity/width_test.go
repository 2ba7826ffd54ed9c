package connectivity

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v2"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
)

// fullPacket is what the largest packet of the tunnel is on the wire, without the
// headers of IP and UDP.
const fullPacket = tunnel.DefaultMTU + tunnel.Overhead

// A link carries datagrams of at most so many bytes between two machines and says
// nothing about the others.
type link struct{ limit atomic.Int64 }

// join puts a link between two machines. It returns the address at which each
// finds the other.
func (l *link) join(t *testing.T, a, b *machine) (ofB, ofA netip.AddrPort) {
	t.Helper()
	home := func(m *machine) net.Addr {
		return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(m.device.Bind().Port())}
	}
	left, right := blackhole(t), blackhole(t) // a speaks to left, b to right
	var carriers sync.WaitGroup
	carry := func(from, to *net.UDPConn, at net.Addr) {
		buf := make([]byte, 65535)
		for {
			n, _, err := from.ReadFrom(buf)
			if err != nil {
				return
			}
			if n <= int(l.limit.Load()) {
				_, _ = to.WriteTo(buf[:n], at) // what is lost is lost
			}
		}
	}
	carriers.Go(func() { carry(left, right, home(b)) })
	carriers.Go(func() { carry(right, left, home(a)) })
	t.Cleanup(func() { _ = left.Close(); _ = right.Close(); carriers.Wait() })
	return left.LocalAddr().(*net.UDPAddr).AddrPort(), right.LocalAddr().(*net.UDPAddr).AddrPort()
}

// through makes a link the direct path of both machines.
func through(t *testing.T, a, b *machine, limit int) *link {
	t.Helper()
	l := &link{}
	l.limit.Store(int64(limit))
	for _, m := range []*machine{a, b} {
		m.inLoop(func(context.Context) { m.paths.cfg.Address = func(netip.Addr) bool { return false } }) // ICE finds nothing
	}
	introduce(t, a, b)
	ofB, ofA := l.join(t, a, b)
	for m, at := range map[*machine]netip.AddrPort{a: ofB, b: ofA} {
		other := map[*machine]string{a: "b", b: "a"}[m]
		m.inLoop(func(ctx context.Context) {
			pr := m.paths.pairOfID(ctx, other)
			m.paths.wake(ctx, pr)
			m.paths.tryDirect(ctx, pr, at, true)
		})
	}
	a.ping(t, b)
	return l
}

// alone waits until the direct path carries packets without the relay's help.
func (m *machine) alone(t *testing.T, to *machine) {
	t.Helper()
	eventually(t, m.id+"'s path to "+to.id+" carries packets alone", func() bool {
		var alone bool
		m.inLoop(func(context.Context) {
			pr := m.paths.byID[to.id]
			alone = pr.direct != nil && pr.wide == pr.direct && pr.primary == pr.direct && pr.also == nil
		})
		return alone
	})
}

func TestNarrowPathIsLeftToTheRelay(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	through(t, a, b, fullPacket-1)
	for m, other := range map[*machine]string{a: "b", b: "a"} {
		eventually(t, "the path is found to be narrow", func() bool {
			s, _ := m.paths.Status(other)
			return s.Path == PathRelayed && s.Reason == ReasonMTU
		})
	}
	a.ping(t, b)
	if s, _ := a.paths.Status("b"); s.LastError != errNarrow.Error() {
		t.Errorf("last error %q, want %q", s.LastError, errNarrow)
	}
}

func TestWidePathCarriesAlone(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	through(t, a, b, fullPacket)
	a.alone(t, b)
	b.alone(t, a)
	a.ping(t, b)
}

// stream writes to a TCP connection over the overlay until the test ends, and
// returns how much has arrived.
func stream(t *testing.T, from, to *machine) *atomic.Int64 {
	t.Helper()
	listener, err := to.device.Listen(netip.AddrPortFrom(to.addr, 7000))
	if err != nil {
		t.Fatal(err)
	}
	var arrived atomic.Int64
	var ends sync.WaitGroup
	ends.Go(func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, 64<<10)
		for n := 0; err == nil; n, err = c.Read(buf) {
			arrived.Add(int64(n))
		}
		_ = c.Close()
	})
	c, err := from.device.Dial(t.Context(), netip.AddrPortFrom(to.addr, 7000))
	if err != nil {
		t.Fatal(err)
	}
	ends.Go(func() {
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for range pace.C {
			if _, err := c.Write(make([]byte, 4<<10)); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = c.Close()
		_ = listener.Close()
		ends.Wait()
	})
	return &arrived
}

// A link becomes narrow in the middle of a stream: small packets pass, so the path
// lives on, and nothing but the stream itself would notice.
func TestLinkBecomesNarrow(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp()})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp()})
	l := through(t, a, b, fullPacket)
	a.alone(t, b)
	b.alone(t, a)
	arrived := stream(t, a, b)
	eventually(t, "the stream flows", func() bool { return arrived.Load() > 256<<10 })
	l.limit.Store(1200) // a stack need not fill its segments to the last byte
	start, before := time.Now(), arrived.Load()
	eventually(t, "the stream flows again", func() bool { return arrived.Load() > before+256<<10 })
	t.Logf("the stream flows again after %v", time.Since(start))
	for m, other := range map[*machine]string{a: "b", b: "a"} {
		eventually(t, m.id+" says why", func() bool {
			s, _ := m.paths.Status(other)
			return s.Path == PathRelayed && s.Reason == ReasonMTU
		})
	}
}

// What a link carries of a tunnel that is wider than the least is used, and
// senders are told.
func TestPathCarriesLessThanTheTunnel(t *testing.T) {
	r := startRelay(t)
	w := newWire()
	const mtu, carried = 1420, 1344
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{relay: r.udp(), mtu: mtu})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{relay: r.udp(), mtu: mtu})
	through(t, a, b, carried+tunnel.Overhead)
	a.alone(t, b)
	if s, _ := a.paths.Status("b"); s.Path != PathDirect || s.MTU != carried {
		t.Errorf("status %+v, want a direct path that carries %d", s, carried)
	}
	arrived := stream(t, a, b)
	eventually(t, "a stream flows", func() bool { return arrived.Load() > 64<<10 })
}

// A narrow path that is all there is carries what it can.
func TestNarrowPathWithoutRelayTellsSenders(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	through(t, a, b, 1000)
	for m, other := range map[*machine]string{a: "b", b: "a"} {
		eventually(t, m.id+" knows what the path carries", func() bool {
			s, _ := m.paths.Status(other)
			return s.Path == PathDirect && s.MTU == 960 // the next multiple of 16 makes a message of 1,008
		})
	}
	arrived := stream(t, a, b)
	eventually(t, "a stream flows", func() bool { return arrived.Load() > 64<<10 })
}

func TestPaddingIsExactAndNeverGrows(t *testing.T) {
	integrity := stun.MessageIntegrity("key")
	question, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername("wattle.x"), padded{fullPacket}, integrity)
	if err != nil {
		t.Fatal(err)
	}
	if len(question.Raw) != fullPacket {
		t.Errorf("a full question has %d bytes, want %d", len(question.Raw), fullPacket)
	}
	answer, err := stun.Build(stun.TransactionID, stun.BindingSuccess, answerSize(question), integrity)
	if err != nil || len(answer.Raw) != len(question.Raw) {
		t.Errorf("its answer has %d bytes, %v", len(answer.Raw), err)
	}
	plain, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername("wattle.x"), padded{}, integrity)
	if err != nil || plain.Contains(stun.AttrPadding) || answerSize(plain) != (padded{}) {
		t.Errorf("a plain question is padded: %v, %v", plain, err)
	}
}

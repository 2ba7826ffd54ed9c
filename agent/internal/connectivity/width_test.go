package connectivity

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/pion/stun/v2"
)

// narrowLink carries datagrams of at most limit bytes between two machines and
// says nothing about the others. It returns the address at which each finds the
// other.
func narrowLink(t *testing.T, a, b *machine, limit int) (ofB, ofA netip.AddrPort) {
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
			if n <= limit {
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
func through(t *testing.T, a, b *machine, limit int) {
	t.Helper()
	for _, m := range []*machine{a, b} {
		m.inLoop(func(context.Context) { m.paths.cfg.Address = func(netip.Addr) bool { return false } }) // ICE finds nothing
	}
	introduce(t, a, b)
	a.ping(t, b)
	a.onPath(t, b, PathRelayed)
	ofB, ofA := narrowLink(t, a, b, limit)
	for m, at := range map[*machine]netip.AddrPort{a: ofB, b: ofA} {
		m.inLoop(func(ctx context.Context) {
			for _, pr := range m.paths.pairs {
				m.paths.tryDirect(ctx, pr, at, true)
			}
		})
	}
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
	for m, other := range map[*machine]string{a: "b", b: "a"} {
		eventually(t, "the path carries packets alone", func() bool {
			var alone bool
			m.inLoop(func(context.Context) {
				pr := m.paths.byID[other]
				alone = pr.direct != nil && pr.primary == pr.direct && pr.also == nil
			})
			return alone
		})
	}
	a.ping(t, b)
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
	if err != nil || plain.Contains(attributePadding) || answerSize(plain) != (padded{}) {
		t.Errorf("a plain question is padded: %v, %v", plain, err)
	}
}

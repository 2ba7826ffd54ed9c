package batch

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// patience bounds what a test waits for; it is never the measure of anything.
const patience = time.Minute

func listen(t testing.TB, address string) (*Conn, netip.AddrPort) {
	t.Helper()
	at := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address))
	network := "udp4"
	if at.IP.To4() == nil {
		network = "udp"
	}
	udp, err := net.ListenUDP(network, at)
	if err != nil {
		t.Skip("no such address here: " + err.Error())
	}
	t.Cleanup(func() { _ = udp.Close() }) // a test may have closed it
	if err := udp.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c, err := New(udp)
	if err != nil {
		t.Fatal(err)
	}
	local := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	return c, netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
}

// receive returns the next want datagrams.
func receive(t testing.TB, c *Conn, want int, from netip.AddrPort) (datagrams [][]byte) {
	t.Helper()
	for len(datagrams) < want {
		in, err := c.Receive()
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(datagrams), want, err)
		}
		for i := range in.Messages {
			m := &in.Messages[i]
			if m.From.Port() != from.Port() {
				t.Fatalf("from %s, want %s", m.From, from)
			}
			for len(m.Bytes) > 0 {
				datagrams = append(datagrams, bytes.Clone(m.Next()))
			}
		}
		in.Release()
	}
	return datagrams
}

// Whatever is added arrives as it was: in order, with its own length, head
// before body, whether it shares a train or not.
func TestDatagramsArriveAsTheyWere(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::]:0"} {
		t.Run(address, func(t *testing.T) {
			a, from := listen(t, "127.0.0.1:0")
			b, to := listen(t, address)
			to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
			memory := bytes.Repeat([]byte("0123456789abcdef"), 4096)
			var want [][]byte
			out := NewOutbox()
			add := func(head, body []byte) {
				if out.Full() {
					t.Fatal("full")
				}
				want = append(want, append(bytes.Clone(head), body...))
				out.Add(to, head, body)
			}
			for i := range 40 { // adjacent pieces of one memory: one part
				add(nil, memory[i*100:(i+1)*100])
			}
			for i := range 70 { // more than one train takes
				add([]byte{byte(i), 1, 2, 3}, memory[i*50:][:96])
			}
			add(nil, memory[:7])   // shorter: ends the train
			add(nil, memory[:100]) // longer: the next one
			add(memory[:1], nil)
			if lost, err := a.Write(out); lost != 0 || err != nil {
				t.Fatalf("%d lost, %v", lost, err)
			}
			got := receive(t, b, len(want), from)
			for i := range want {
				if !bytes.Equal(got[i], want[i]) {
					t.Fatalf("datagram %d is %q, want %q", i, got[i], want[i])
				}
			}
			if !out.Empty() {
				t.Error("the outbox keeps what was written")
			}
		})
	}
}

// One address that cannot be reached costs its own datagrams only.
func TestUnreachableIsNoError(t *testing.T) {
	a, from := listen(t, "127.0.0.1:0")
	b, to := listen(t, "127.0.0.1:0")
	out := NewOutbox()
	out.Add(netip.MustParseAddrPort("127.0.0.1:0"), nil, []byte("there is no port 0"))
	out.Add(to, nil, []byte("after"))
	lost, err := a.Write(out)
	if lost != 1 || err != nil {
		t.Fatalf("%d lost, %v", lost, err)
	}
	if got := receive(t, b, 1, from); string(got[0]) != "after" {
		t.Errorf("got %q", got[0])
	}
}

func TestClosed(t *testing.T) {
	a, _ := listen(t, "127.0.0.1:0")
	if err := a.udp.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Receive(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("receive: %v", err)
	}
	out := NewOutbox()
	out.Add(netip.MustParseAddrPort("127.0.0.1:9"), nil, []byte("x"))
	if _, err := a.Write(out); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

// Neither way allocates once it is warm.
func BenchmarkEcho(b *testing.B) {
	x, _ := listen(b, "127.0.0.1:0")
	y, to := listen(b, "127.0.0.1:0")
	body := bytes.Repeat([]byte("x"), 1200)
	out := NewOutbox()
	b.ReportAllocs()
	b.SetBytes(40 * 1200)
	for b.Loop() {
		for range 40 {
			out.Add(to, nil, body)
		}
		if lost, err := x.Write(out); lost > 0 || err != nil {
			b.Fatal(lost, err)
		}
		for got := 0; got < 40*1200; {
			in, err := y.Receive()
			if err != nil {
				b.Fatal(err)
			}
			for i := range in.Messages {
				got += len(in.Messages[i].Bytes)
			}
			in.Release()
		}
	}
}

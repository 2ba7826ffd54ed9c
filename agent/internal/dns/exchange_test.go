package dns

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// TestForgedDatagramsAreNoAnswers: whoever knows the port can send to it. What is
// not the answer neither counts nor ends the wait for it.
func TestForgedDatagramsAreNoAnswers(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close()
		<-served
	})
	go func() {
		defer close(served)
		raw := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDP(raw)
			if err != nil {
				return
			}
			question := new(dns.Msg)
			if err := question.Unpack(raw[:n]); err != nil {
				t.Error(err)
				return
			}
			send := func(change func(*dns.Msg)) {
				m := says("192.0.2.66", 60)(question)
				change(m)
				packed, err := m.Pack()
				if err != nil {
					t.Error(err)
				}
				_, _ = conn.WriteToUDP(packed, from)
			}
			_, _ = conn.WriteToUDP([]byte("no DNS"), from)
			_, _ = conn.WriteToUDP(nil, from)
			send(func(m *dns.Msg) { m.Id++ })
			send(func(m *dns.Msg) { m.Response = false })
			send(func(m *dns.Msg) { m.Question[0].Name = "other.example." })
			send(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA })
			send(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
			send(func(m *dns.Msg) { m.Question = nil })
			send(func(m *dns.Msg) { m.Answer = says("192.0.2.1", 60)(question).Answer })
		}
	}()
	server := Server{Addr: netip.MustParseAddrPort(conn.LocalAddr().String())}
	r := forwarding(t, Config{}, server)
	if _, got := ask(t.Context(), r, "www.example.net.", dns.TypeA); !slices.Equal(got, []string{"192.0.2.1"}) {
		t.Errorf("believed %v", got)
	}
	if len(r.outside.failed) > 0 {
		t.Error("the server counts as one that failed")
	}
}

// TestServersThatSendTooMuch: an answer over UDP that is longer than we have
// offered to take counts all the same, and one without a question may say that
// EDNS is not understood.
func TestServersThatSendTooMuch(t *testing.T) {
	u := listen(t, UDP, func(question *dns.Msg) *dns.Msg {
		if question.IsEdns0() != nil {
			m := new(dns.Msg).SetRcode(question, dns.RcodeFormatError)
			m.Question = nil
			return m
		}
		m := new(dns.Msg)
		m.SetReply(question)
		for at := range 60 {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: question.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, byte(at))})
		}
		return m
	})
	answer, got := ask(t.Context(), forwarding(t, Config{}, u.server), "many.example.net.", dns.TypeA)
	if len(got) != 60 || answer.Len() <= udpSize {
		t.Errorf("%d addresses in %d bytes", len(got), answer.Len())
	}
}

// TestLongAnswersAreCut: over UDP nobody gets more than what fits into a packet of
// the tunnel, however much he offers to take, and all of it over TCP.
func TestLongAnswersAreCut(t *testing.T) {
	network := newLoopback()
	r, err := New(Options{Logger: slog.New(slog.DiscardHandler), Network: network})
	if err != nil {
		t.Fatal(err)
	}
	config := Config{Addresses: []netip.Addr{netip.MustParseAddr("100.64.0.1")}, Zones: []Zone{{Domain: "many.example"}}}
	for at := range 100 {
		config.Zones[0].Records = append(config.Zones[0].Records, Record{Name: "many.example", Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(at)}), TTL: 60})
	}
	if err := r.Set(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	at := netip.AddrPortFrom(config.Addresses[0], Port)
	for _, test := range []struct {
		proto, addr string
		offers      uint16 // 0: no EDNS
		least, most int
	}{
		{"udp", network.packets[at], 0, 400, dns.MinMsgSize},
		{"udp", network.packets[at], 1000, 900, 1000},
		{"udp", network.packets[at], 65535, 1100, udpSize},
		{"tcp", network.streams[at], 0, 1600, dns.MaxMsgSize},
	} {
		question := new(dns.Msg).SetQuestion("many.example.", dns.TypeA)
		if test.offers > 0 {
			question.SetEdns0(test.offers, false)
		}
		answer, _, err := (&dns.Client{Net: test.proto, UDPSize: 65535}).ExchangeContext(t.Context(), question, test.addr)
		if err != nil {
			t.Fatal(err)
		}
		answer.Compress = true
		if size := answer.Len(); size < test.least || size > test.most || answer.Truncated != (test.proto == "udp") {
			t.Errorf("%s, %d bytes offered: %d bytes, cut: %v", test.proto, test.offers, size, answer.Truncated)
		}
	}
}

// TestAConnectionThatDiedInSilence: a question on it is asked again on a new one,
// well before who asks gives up.
func TestAConnectionThatDiedInSilence(t *testing.T) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var conns []net.Conn
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			serving.Go(func() {
				stream := &dns.Conn{Conn: conn}
				question, err := stream.ReadMsg()
				if err != nil {
					t.Error(err)
					return
				}
				if err := stream.WriteMsg(says("192.0.2.1", 0)(question)); err != nil {
					t.Error(err)
				}
				// The second question on it is never read.
			})
		}
	})
	defer func() {
		_ = listener.Close()
		serving.Wait()
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	r := forwarding(t, Config{}, Server{Addr: netip.MustParseAddrPort(listener.Addr().String()), Over: TLS})
	for range 2 {
		if _, got := ask(t.Context(), r, "www.example.net.", dns.TypeA); !slices.Equal(got, []string{"192.0.2.1"}) {
			t.Error(got)
		}
	}
}

// TestQuestionsCannotBeGuessed: who forges an answer has to guess the port and the
// id of the question (RFC 5452, sections 4.3 and 4.5). Both are other ones for each
// question, whatever id the program has that asks us.
func TestQuestionsCannotBeGuessed(t *testing.T) {
	var mu sync.Mutex // guards both
	ids, ports := map[uint16]int{}, map[int]int{}
	u := listen(t, UDP, says("192.0.2.1", 0)) // each time anew
	network := &net.Dialer{}
	dial := func(ctx context.Context, over string, to netip.AddrPort) (net.Conn, error) {
		conn, err := network.DialContext(ctx, over, to.String())
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		ports[conn.LocalAddr().(*net.UDPAddr).Port]++
		return &watched{Conn: conn, wrote: func(raw []byte) {
			mu.Lock()
			defer mu.Unlock()
			ids[binary.BigEndian.Uint16(raw)]++
		}}, nil
	}
	f := newForwarder(newExchanger(dial, nil))
	const questions = 200
	for range questions {
		question := new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA)
		question.Id = 4711
		if answer, err := f.find(t.Context(), []Server{u.server}, question); err != nil || len(answer.Answer) != 1 {
			t.Fatalf("%v, %v", answer, err)
		}
	}
	f.end()
	// Of 200 of 65,536 (or of 28,000 ports) less than one is met twice, on average; half of them does
	// not happen.
	if len(ids) < questions/2 || len(ports) < questions/2 {
		t.Errorf("%d questions have %d ids and %d ports", questions, len(ids), len(ports))
	}
	for _, values := range [][]int{keysOf(ids), keysOf(ports)} {
		steps := map[int]int{}
		for i := range len(values) - 1 {
			steps[values[i+1]-values[i]]++
		}
		if steps[1] > len(values)/4 {
			t.Errorf("%d of %d values stand next to each other", steps[1], len(values))
		}
	}
}

func keysOf[K uint16 | int](m map[K]int) (list []int) {
	for k := range m {
		list = append(list, int(k))
	}
	slices.Sort(list)
	return list
}

// watched tells what is written.
type watched struct {
	net.Conn
	wrote func([]byte)
}

func (w *watched) Write(raw []byte) (int, error) {
	w.wrote(raw)
	return w.Conn.Write(raw)
}

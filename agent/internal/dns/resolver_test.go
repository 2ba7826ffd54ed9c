package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// loopback binds every address to a free port of 127.0.0.1 and remembers which.
type loopback struct {
	mu      sync.Mutex
	packets map[netip.AddrPort]string
	streams map[netip.AddrPort]string
	busy    bool
	taken   map[netip.AddrPort]bool
}

func (l *loopback) ListenPacket(ctx context.Context, addr netip.AddrPort) (net.PacketConn, error) {
	if l.busy || l.taken[addr] {
		return nil, fmt.Errorf("listen: %w", syscall.EADDRINUSE)
	}
	var config net.ListenConfig
	c, err := config.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err == nil {
		l.mu.Lock()
		l.packets[addr] = c.LocalAddr().String()
		l.mu.Unlock()
	}
	return c, err
}

func (l *loopback) Listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	var config net.ListenConfig
	c, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err == nil {
		l.mu.Lock()
		l.streams[addr] = c.Addr().String()
		l.mu.Unlock()
	}
	return c, err
}

func newLoopback() *loopback {
	return &loopback{packets: map[netip.AddrPort]string{}, streams: map[netip.AddrPort]string{}}
}

func TestAnswersOverUDPAndTCP(t *testing.T) {
	network := newLoopback()
	r, err := New(Options{Logger: slog.New(slog.DiscardHandler), Network: network})
	if err != nil {
		t.Fatal(err)
	}
	config := home
	config.Addresses = []netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("fd00:1::1")}
	for range 2 { // the second time nothing is bound again
		if err := r.Set(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	if len(network.packets) != 2 || len(network.streams) != 2 {
		t.Fatalf("bound %d and %d sockets, want two of each", len(network.packets), len(network.streams))
	}
	for proto, addresses := range map[string]map[netip.AddrPort]string{"udp": network.packets, "tcp": network.streams} {
		for want, addr := range addresses {
			if want.Port() != Port {
				t.Errorf("bound %s", want)
			}
			question := new(dns.Msg)
			question.SetQuestion("old.mesh.example.", dns.TypeA)
			answer, _, err := (&dns.Client{Net: proto}).ExchangeContext(t.Context(), question, addr)
			if err != nil {
				t.Fatal(err)
			}
			if len(answer.Answer) != 1 || !strings.HasSuffix(answer.Answer[0].String(), "100.64.0.2") {
				t.Errorf("%s: %v", proto, answer)
			}
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, addr := range network.streams {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			t.Error("still listening after Close")
		}
	}
}

func TestBusyPortIsToldAndNamesStillKnown(t *testing.T) {
	network := newLoopback()
	network.busy = true
	r, err := New(Options{Logger: slog.New(slog.DiscardHandler), Network: network})
	if err != nil {
		t.Fatal(err)
	}
	config := home
	config.Addresses = []netip.Addr{netip.MustParseAddr("100.64.0.1")}
	if err := r.Set(t.Context(), config); err == nil || !strings.Contains(err.Error(), "100.64.0.1:53") {
		t.Errorf("error %v, want the address in it", err)
	}
	for _, name := range []string{"web-1", "WEB-1.mesh.example", "web-1.mesh.example."} {
		if host, ok := r.Lookup(name); !ok || host.Name != "web-1" {
			t.Errorf("%s not found", name)
		}
	}
	if _, ok := r.Lookup("nobody"); ok {
		t.Error("found nobody")
	}
	network.busy = false
	if err := r.Set(t.Context(), config); err != nil {
		t.Errorf("second attempt: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestBusyPortsAreAnsweredElsewhere(t *testing.T) {
	four, six := netip.MustParseAddrPort("100.64.0.1:53"), netip.MustParseAddrPort("[fd00:1::1]:53")
	everywhere := map[netip.AddrPort]bool{four: true, six: true}
	for _, at := range instead {
		if at.Port() == Port {
			everywhere[at] = true
		}
	}
	network := newLoopback()
	r, err := New(Options{Logger: slog.New(slog.DiscardHandler), Network: network})
	if err != nil {
		t.Fatal(err)
	}
	config := home
	config.Addresses, config.Elsewhere = []netip.Addr{four.Addr(), six.Addr()}, true
	for _, step := range []struct {
		taken map[netip.AddrPort]bool
		at    string
		note  string
	}{
		{nil, "[100.64.0.1:53 [fd00:1::1]:53]", ""},
		{map[netip.AddrPort]bool{six: true}, "[100.64.0.1:53]", "DNS is not answered on [fd00:1::1]:53: "},
		{map[netip.AddrPort]bool{four: true, six: true}, "[127.0.87.53:53]", "this machine asks at 127.0.87.53:53 meanwhile"},
		{everywhere, "[127.0.87.53:5387]", "this machine asks at 127.0.87.53:5387 meanwhile"},
		{map[netip.AddrPort]bool{four: true}, "[[fd00:1::1]:53]", "DNS is not answered on 100.64.0.1:53"},
	} {
		if err := r.Set(t.Context(), Config{}); err != nil {
			t.Fatal(err)
		}
		network.taken = step.taken
		for range 2 { // the second time changes nothing
			if err := r.Set(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			at, note := r.Serving()
			if fmt.Sprint(at) != step.at || !strings.Contains(note, step.note) || (step.note == "") != (note == "") {
				t.Errorf("answers at %v, want %s; %q", at, step.at, note)
			}
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// telling is a resolver that adds to told what it is about to answer.
func telling(t *testing.T, config Config, told *[]Answered) *Resolver {
	t.Helper()
	r, err := New(Options{
		Logger: slog.New(slog.DiscardHandler), Network: newLoopback(),
		Answered: func(_ context.Context, a Answered) { *told = append(*told, a) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Set(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnsweredIsCalledBeforeTheAnswer(t *testing.T) {
	var told []Answered
	r := telling(t, home, &told)
	for _, question := range []struct {
		name string
		kind uint16
	}{{"WEB-1.mesh.example.", dns.TypeAAAA}, {"old.mesh.example.", dns.TypeAAAA}, {"1.0.64.100.in-addr.arpa.", dns.TypePTR}} {
		r.Answer(t.Context(), new(dns.Msg).SetQuestion(question.name, question.kind))
	}
	want := []Answered{{Name: "web-1.mesh.example", Addrs: []netip.Addr{netip.MustParseAddr("fd00:1::1")}, TTL: TTL}}
	if diff := cmp.Diff(want, told, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// TestAnsweredTellsTheLeastTime: addresses may be used as long as every record
// that led to them holds.
func TestAnsweredTellsTheLeastTime(t *testing.T) {
	for _, test := range []struct {
		alias, address uint32
		want           time.Duration
	}{{0, 300, 0}, {300, 0, 0}, {60, 300, time.Minute}, {300, 60, time.Minute}} {
		config := Config{Zones: []Zone{{Domain: "a.example", Records: []Record{
			{Name: "www.a.example", Target: "web.a.example", TTL: test.alias},
			{Name: "web.a.example", Addr: netip.MustParseAddr("10.0.0.1"), TTL: test.address},
		}}}}
		var told []Answered
		r := telling(t, config, &told)
		r.Answer(t.Context(), new(dns.Msg).SetQuestion("www.a.example.", dns.TypeA))
		if len(told) != 1 || told[0].TTL != test.want {
			t.Errorf("%d and %d seconds: %+v, want %s", test.alias, test.address, told, test.want)
		}
	}
}

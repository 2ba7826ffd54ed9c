//go:build linux

package acceptance

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"
)

// A nameserver is a DNS server on a host of a story. It knows a few addresses,
// says with a start of authority that other names are not there, and remembers
// who asked for what.
type nameserver struct {
	parts   []*dns.Server
	running sync.WaitGroup

	mu      sync.Mutex // guards all below
	records map[string][]dns.RR
	asked   []string
}

const nameserverForm = "nameserver HOST NAME=ADDRESS[/TTL]... (again: other names, no questions so far)"

// nameserverCommand starts a name server at port 53 of a host, over UDP and
// TCP, or gives the one that runs other names and makes it forget who asked.
func nameserverCommand(s *story, ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	usage(ts, len(args) > 1, nameserverForm)
	n, running := s.names[args[0]]
	if !running {
		n = &nameserver{}
	}
	records := map[string][]dns.RR{}
	for _, arg := range args[1:] {
		name, text, found := strings.Cut(arg, "=")
		text, life, given := strings.Cut(text, "/")
		if !given {
			life = "60"
		}
		addr, err := netip.ParseAddr(text)
		ttl, ttlErr := strconv.ParseUint(life, 10, 31)
		usage(ts, found && err == nil && ttlErr == nil, nameserverForm)
		name = dns.Fqdn(name)
		head := dns.RR_Header{Name: name, Class: dns.ClassINET, Ttl: uint32(ttl)}
		if addr.Is4() {
			head.Rrtype = dns.TypeA
			records[name] = append(records[name], &dns.A{Hdr: head, A: addr.AsSlice()})
		} else {
			head.Rrtype = dns.TypeAAAA
			records[name] = append(records[name], &dns.AAAA{Hdr: head, AAAA: addr.AsSlice()})
		}
	}
	n.mu.Lock()
	n.records, n.asked = records, nil
	n.mu.Unlock()
	if running {
		return
	}
	h := s.find(ts, args[0])
	at := netip.AddrPortFrom(h.Addr, 53).String()
	handler := dns.HandlerFunc(n.handle)
	ts.Check(h.Do(func() error {
		packets, err := net.ListenPacket("udp", at)
		if err != nil {
			return err
		}
		n.parts = append(n.parts, &dns.Server{PacketConn: packets, Handler: handler})
		streams, err := net.Listen("tcp", at)
		if err == nil {
			n.parts = append(n.parts, &dns.Server{Listener: streams, Handler: handler})
		}
		return err
	}))
	for _, part := range n.parts {
		started := make(chan struct{})
		part.NotifyStartedFunc = func() { close(started) }
		n.running.Go(func() { _ = part.ActivateAndServe() }) // a server that does not answer fails the story
		<-started
	}
	s.names[args[0]] = n
}

// stop ends the server.
func (n *nameserver) stop(t testing.TB) {
	for _, part := range n.parts {
		if err := part.Shutdown(); err != nil {
			t.Error(err)
		}
	}
	n.running.Wait()
}

func (n *nameserver) handle(w dns.ResponseWriter, question *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(question)
	q := question.Question[0]
	name := strings.ToLower(q.Name)
	n.asked = append(n.asked, strings.TrimSuffix(name, ".")+" "+dns.Type(q.Qtype).String())
	records, known := n.records[name]
	for _, record := range records {
		if record.Header().Rrtype == q.Qtype {
			m.Answer = append(m.Answer, record)
		}
	}
	if !known {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, &dns.SOA{
			Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
			Ns:  "ns.", Mbox: "hostmaster.", Serial: 1, Refresh: 60, Retry: 60, Expire: 60, Minttl: 60,
		})
	}
	_ = w.WriteMsg(m) // who asked may be gone
}

// asked ends the story unless the name server of a host was asked for a name and
// type so many times; "some" is once or more.
func asked(s *story, ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 4, "asked HOST NAME TYPE TIMES")
	n, running := s.names[args[0]]
	if !running {
		ts.Fatalf("no name server runs on %s", args[0])
	}
	want, err := strconv.Atoi(args[3])
	usage(ts, err == nil || args[3] == "some", "asked HOST NAME TYPE TIMES|some")
	n.mu.Lock()
	defer n.mu.Unlock()
	got := 0
	for _, question := range n.asked {
		if question == args[1]+" "+args[2] {
			got++
		}
	}
	if args[3] == "some" && got > 0 {
		want = got
	}
	if got != want || got == 0 && args[3] == "some" {
		ts.Fatalf("%s was asked for %s %s %d times, want %s; all questions:\n%s", args[0], args[1], args[2], got, args[3], strings.Join(n.asked, "\n"))
	}
}

package dns

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// A book answers from lines of a zone file, follows no CNAME but those that it
// has, and says NXDOMAIN of all else, as a server does that knows one network.
func book(t *testing.T, lines ...string) func(*dns.Msg) *dns.Msg {
	t.Helper()
	var records []dns.RR
	for _, line := range lines {
		record, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record)
	}
	return func(question *dns.Msg) *dns.Msg {
		m := new(dns.Msg)
		m.SetReply(question)
		m.AuthenticatedData = true
		q := question.Question[0]
		for name := q.Name; ; {
			next, known := "", false
			for _, record := range records {
				head := record.Header()
				if !strings.EqualFold(head.Name, name) {
					continue
				}
				known = true
				if alias, ok := record.(*dns.CNAME); ok {
					next = alias.Target
				}
				if next != "" || head.Rrtype == q.Qtype {
					m.Answer = append(m.Answer, dns.Copy(record))
				}
			}
			if !known {
				m.Rcode = dns.RcodeNameError
			}
			if next == "" || q.Qtype == dns.TypeCNAME {
				return m
			}
			name = next
		}
	}
}

// TestChainsCrossServers: where names lead to each other over the borders of zones,
// each is asked of whom it belongs to.
func TestChainsCrossServers(t *testing.T) {
	public := listen(t, UDP, book(t,
		"www.example.net. 60 CNAME web-1.mesh.example.", "six.example.net. 60 CNAME old.mesh.example.",
		"gone.example.net. 60 CNAME nobody.mesh.example.", "app.example.net. 60 CNAME app.corp.example.",
		"there.example.net. 60 CNAME here.example.net.", "here.example.net. 60 A 192.0.2.1",
		"empty.example.net. 60 CNAME dead.example.net.",
		"loop.example.net. 60 CNAME loop.corp.example."))
	corp := listen(t, UDP, book(t,
		"app.corp.example. 60 CNAME db.corp.example.", "db.corp.example. 60 CNAME intern.example.",
		"loop.corp.example. 60 CNAME loop.example.net."))
	config := home
	config.Zones = []Zone{{Domain: "intern.example", Records: []Record{{Name: "intern.example", Addr: netip.MustParseAddr("10.0.0.7"), TTL: 60}}}}
	config.Nameservers = []Nameservers{group([]string{"corp.example"}, corp)}
	r := forwarding(t, config, public.server)
	for _, test := range []struct {
		name string
		kind uint16
		code int
		want []string
	}{
		{"www.example.net.", dns.TypeA, dns.RcodeSuccess, []string{"CNAME web-1.mesh.example.", "A 100.64.0.1"}},
		{"www.example.net.", dns.TypeAAAA, dns.RcodeSuccess, []string{"CNAME web-1.mesh.example.", "AAAA fd00:1::1"}},
		{"www.example.net.", dns.TypeCNAME, dns.RcodeSuccess, []string{"CNAME web-1.mesh.example."}},
		{"six.example.net.", dns.TypeAAAA, dns.RcodeSuccess, []string{"CNAME old.mesh.example."}},
		{"gone.example.net.", dns.TypeA, dns.RcodeNameError, []string{"CNAME nobody.mesh.example."}},
		{"app.example.net.", dns.TypeA, dns.RcodeSuccess, []string{"CNAME app.corp.example.", "CNAME db.corp.example.", "CNAME intern.example.", "A 10.0.0.7"}},
		{"there.example.net.", dns.TypeA, dns.RcodeSuccess, []string{"CNAME here.example.net.", "A 192.0.2.1"}},
		{"empty.example.net.", dns.TypeA, dns.RcodeNameError, []string{"CNAME dead.example.net."}},
		{"loop.example.net.", dns.TypeA, dns.RcodeServerFailure, nil},
	} {
		answer, _ := ask(t.Context(), r, test.name, test.kind)
		var got []string
		for _, record := range answer.Answer {
			fields := strings.Fields(record.String())
			got = append(got, strings.Join(fields[3:], " "))
		}
		if diff := cmp.Diff(test.want, got); diff != "" || answer.Rcode != test.code {
			t.Errorf("%s %s: %s %s", test.name, dns.TypeToString[test.kind], dns.RcodeToString[answer.Rcode], diff)
		}
		if wholly := test.name == "there.example.net." || test.name == "empty.example.net." || test.kind == dns.TypeCNAME; answer.AuthenticatedData != wholly {
			t.Errorf("%s %s: authentic is said to be %v", test.name, dns.TypeToString[test.kind], answer.AuthenticatedData)
		}
		if test.code == dns.RcodeNameError && strings.Contains(test.name, "gone") && len(answer.Ns) != 1 {
			t.Errorf("%s: nothing says for how long: %v", test.name, answer.Ns)
		}
	}
	// A peer is told where the chain goes, and nothing of others behind it.
	config.Shared = []string{"example.net"}
	if err := r.Set(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	peer := netip.MustParseAddr("100.64.0.2")
	answer := r.answer(t.Context(), new(dns.Msg).SetQuestion("app.example.net.", dns.TypeA), peer)
	if len(answer.Answer) != 1 {
		t.Errorf("a peer was told %v", answer.Answer)
	}
}

// TestAnswersSayWhy: with EDNS a failure tells its reason (RFC 8914).
func TestAnswersSayWhy(t *testing.T) {
	u := listen(t, UDP, func(question *dns.Msg) *dns.Msg {
		m := fails(dns.RcodeServerFailure)(question)
		m.SetEdns0(udpSize, false)
		explain(m, dns.ExtendedErrorCodeDNSBogus, "bad signature")
		return m
	})
	closed := listen(t, TCP, silent).server
	closed.Addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 1)
	config := Config{Nameservers: []Nameservers{{Servers: []Server{closed}, Domains: []string{"dead.example"}}}}
	r := forwarding(t, config, u.server)
	this, peer := netip.IPv6Loopback(), netip.MustParseAddr("100.64.0.2")
	for _, test := range []struct {
		name string
		from netip.Addr
		code int
		why  uint16
	}{
		{"www.dead.example.", this, dns.RcodeServerFailure, dns.ExtendedErrorCodeNoReachableAuthority},
		{"www.example.net.", this, dns.RcodeServerFailure, dns.ExtendedErrorCodeDNSBogus},
		{"www.example.net.", peer, dns.RcodeRefused, dns.ExtendedErrorCodeProhibited},
	} {
		question := new(dns.Msg).SetQuestion(test.name, dns.TypeA)
		if answer := r.answer(t.Context(), question, test.from); answer.Rcode != test.code || answer.IsEdns0() != nil {
			t.Errorf("%s without EDNS: %v", test.name, answer)
		}
		answer := r.answer(t.Context(), question.SetEdns0(udpSize, false), test.from)
		var why []uint16
		for _, option := range answer.IsEdns0().Option {
			why = append(why, option.(*dns.EDNS0_EDE).InfoCode)
		}
		if diff := cmp.Diff([]uint16{test.why}, why); diff != "" || answer.Rcode != test.code {
			t.Errorf("%s from %s: %s %s", test.name, test.from, dns.RcodeToString[answer.Rcode], diff)
		}
	}
}

package dns

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/wattlenet/wattle/internal/table"
)

var home = Config{
	Domain:   "mesh.example",
	Networks: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/16"), netip.MustParsePrefix("fd00:1::/64")},
	Hosts: table.Of(map[string]Host{
		"web-1": {Name: "web-1", IPv4: netip.MustParseAddr("100.64.0.1"), IPv6: netip.MustParseAddr("fd00:1::1")},
		"shop":  {Name: "web-1", IPv4: netip.MustParseAddr("100.64.0.1"), IPv6: netip.MustParseAddr("fd00:1::1")},
		"old":   {Name: "old", IPv4: netip.MustParseAddr("100.64.0.2")},
	}),
}

func TestAnswers(t *testing.T) {
	const reverse6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa."
	for _, test := range []struct {
		name   string
		kind   uint16
		code   int
		answer []string
		soa    bool
	}{
		{"web-1.mesh.example.", dns.TypeA, dns.RcodeSuccess, []string{"web-1.mesh.example.\t30\tIN\tA\t100.64.0.1"}, false},
		{"WEB-1.Mesh.Example.", dns.TypeA, dns.RcodeSuccess, []string{"WEB-1.Mesh.Example.\t30\tIN\tA\t100.64.0.1"}, false},
		{"web-1.mesh.example.", dns.TypeAAAA, dns.RcodeSuccess, []string{"web-1.mesh.example.\t30\tIN\tAAAA\tfd00:1::1"}, false},
		{"web-1.", dns.TypeA, dns.RcodeSuccess, []string{"web-1.\t30\tIN\tA\t100.64.0.1"}, false},
		{"old.mesh.example.", dns.TypeAAAA, dns.RcodeSuccess, nil, true},
		{"web-1.mesh.example.", dns.TypeMX, dns.RcodeSuccess, nil, true},
		{"shop.mesh.example.", dns.TypeA, dns.RcodeSuccess, []string{"shop.mesh.example.\t30\tIN\tA\t100.64.0.1"}, false},
		{"web-2.mesh.example.", dns.TypeA, dns.RcodeNameError, nil, true},
		{"a.web-1.mesh.example.", dns.TypeA, dns.RcodeNameError, nil, true},
		{"mesh.example.", dns.TypeA, dns.RcodeSuccess, nil, true},
		{"web-2.", dns.TypeA, dns.RcodeRefused, nil, false},
		{"example.", dns.TypeA, dns.RcodeRefused, nil, false},
		{"web-1.other.example.", dns.TypeA, dns.RcodeRefused, nil, false},
		{"notmesh.example.", dns.TypeA, dns.RcodeRefused, nil, false},
		{"1.0.64.100.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, []string{"1.0.64.100.in-addr.arpa.\t30\tIN\tPTR\tweb-1.mesh.example."}, false},
		{reverse6, dns.TypePTR, dns.RcodeSuccess, []string{reverse6 + "\t30\tIN\tPTR\tweb-1.mesh.example."}, false},
		{"9.0.64.100.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil, true},
		{"1.2.0.192.in-addr.arpa.", dns.TypePTR, dns.RcodeRefused, nil, false},
		// Names between a network and its addresses exist, so that who asks for one
		// label after the other (RFC 9156) gets to the end.
		{"64.100.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, nil, true},
		{"0.64.100.in-addr.arpa.", dns.TypeNS, dns.RcodeSuccess, nil, true},
		{"0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa.", dns.TypeNS, dns.RcodeSuccess, nil, true},
		{"100.in-addr.arpa.", dns.TypeNS, dns.RcodeRefused, nil, false},
		{"63.100.in-addr.arpa.", dns.TypePTR, dns.RcodeRefused, nil, false},
		{"x.1.0.64.100.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil, true},
		{"256.0.64.100.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil, true},
		{"1.0.64.100.in-addr.arpa.", dns.TypeA, dns.RcodeSuccess, nil, true},
		{"web-1.mesh.example.", dns.TypeAXFR, dns.RcodeRefused, nil, false},
		{"web-1.mesh.example.", 65280, dns.RcodeSuccess, nil, true}, // for private use (RFC 6895, section 3.1)
	} {
		t.Run(test.name+dns.TypeToString[test.kind], func(t *testing.T) {
			question := new(dns.Msg)
			question.SetQuestion(test.name, test.kind)
			answer, _ := newZone(home, &zone{}).answer(question)
			if answer.Rcode != test.code {
				t.Errorf("code %s, want %s", dns.RcodeToString[answer.Rcode], dns.RcodeToString[test.code])
			}
			var got []string
			for _, record := range answer.Answer {
				got = append(got, record.String())
			}
			if diff := cmp.Diff(test.answer, got); diff != "" {
				t.Error(diff)
			}
			if (len(answer.Ns) == 1) != test.soa {
				t.Errorf("authority %v, want a start of authority: %v", answer.Ns, test.soa)
			}
			for _, record := range answer.Ns {
				if !dns.IsSubDomain(record.Header().Name, test.name) || answer.Rcode == dns.RcodeNameError && strings.EqualFold(record.Header().Name, test.name) {
					t.Errorf("%s is said not to be, by the authority for %s", test.name, record.Header().Name)
				}
			}
		})
	}
}

func TestOddQuestions(t *testing.T) {
	two := new(dns.Msg)
	two.SetQuestion("web-1.", dns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	notify := new(dns.Msg)
	notify.SetNotify("mesh.example.")
	newer := new(dns.Msg)
	newer.SetQuestion("web-1.", dns.TypeA)
	newer.SetEdns0(4096, false)
	newer.IsEdns0().SetVersion(1)
	chaos := new(dns.Msg)
	chaos.SetQuestion("version.bind.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	for name, test := range map[string]struct {
		question *dns.Msg
		code     int
	}{
		"two questions": {two, dns.RcodeFormatError},
		"notify":        {notify, dns.RcodeNotImplemented},
		"EDNS 1":        {newer, dns.RcodeBadVers},
		"chaos":         {chaos, dns.RcodeRefused},
	} {
		if got, rest := newZone(home, &zone{}).answer(test.question); got.Rcode != test.code || rest != "" {
			t.Errorf("%s: %s, want %s", name, dns.RcodeToString[got.Rcode], dns.RcodeToString[test.code])
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web-1.mesh.example.", "1.0.64.100.in-addr.arpa.", "..ip6.arpa.", "."} {
		question := new(dns.Msg)
		question.SetQuestion(name, dns.TypeA)
		raw, err := question.Pack()
		if err != nil {
			f.Logf("not packed: %v", err)
			continue
		}
		f.Add(raw)
	}
	z := newZone(home, &zone{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		question := new(dns.Msg)
		if question.Unpack(raw) != nil {
			return
		}
		if answer, _ := z.answer(question); !answer.Response {
			t.Error("not a response")
		}
	})
}

func TestReverseDomains(t *testing.T) {
	for network, want := range map[string][]string{
		"100.64.0.0/16":        {"64.100.in-addr.arpa"},
		"100.64.8.0/22":        {"8.64.100.in-addr.arpa", "9.64.100.in-addr.arpa", "10.64.100.in-addr.arpa", "11.64.100.in-addr.arpa"},
		"100.64.255.0/24":      {"255.64.100.in-addr.arpa"},
		"255.255.254.0/23":     {"254.255.255.in-addr.arpa", "255.255.255.in-addr.arpa"},
		"fd00:1::/32":          {"1.0.0.0.0.0.d.f.ip6.arpa"},
		"fd00:1:2:3::/63":      {"2.0.0.0.2.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa", "3.0.0.0.2.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa"},
		"fd00:1:2:3:4::/126":   nil,
		"fd0f:ffff:ff00::/39":  nil,
		"fd12:3456:789a::/48":  {"a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa"},
		"fd00:1:2:fff8::/61":   nil,
		"fd00:ffff:ffff::/128": nil,
	} {
		got := ReverseDomains(netip.MustParsePrefix(network))
		if want == nil { // each domain holds the reverse names of its part of the range
			prefix := netip.MustParsePrefix(network).Masked()
			name, err := dns.ReverseAddr(prefix.Addr().String())
			if err != nil || !within(canonical(name), got[0]) {
				t.Errorf("%s: %s is not below %s", network, name, got[0])
			}
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", network, diff)
		}
	}
}

// TestReverseNamesFollowHosts lets addresses move between hosts: the reverse names are those of a zone made out of nothing.
func TestReverseNamesFollowHosts(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	former, c := &zone{}, Config{}
	for range 300 {
		name := fmt.Sprint("h", random.IntN(8))
		free := netip.AddrFrom4([4]byte{100, 64, 0, byte(random.IntN(10))})
		for label, host := range c.Hosts.All() {
			if host.IPv4 == free {
				c.Hosts = c.Hosts.Without(label)
			}
		}
		if random.IntN(4) == 0 {
			c.Hosts = c.Hosts.Without(name)
		} else {
			c.Hosts = c.Hosts.With(name, Host{Name: name, IPv4: free}).With("alias", Host{Name: name, IPv4: free})
		}
		next, whole := newZone(c, former), newZone(c, &zone{})
		if got, want := maps.Collect(next.names.All()), maps.Collect(whole.names.All()); !maps.Equal(got, want) {
			t.Fatalf("the reverse names are %v, want %v", got, want)
		}
		former = next
	}
}

package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func address(name, text string, ttl uint32) Record {
	return Record{Name: name, Addr: netip.MustParseAddr(text), TTL: ttl}
}

func alias(name, target string) Record { return Record{Name: name, Target: target, TTL: 300} }

// office is the home network with zones beside, above and below the domain of the peers.
func office() Config {
	c := home
	c.Zones = []Zone{
		{Domain: "corp.test", Records: []Record{
			address("corp.test", "192.0.2.1", 60), address("db.corp.test", "192.0.2.2", 60), address("db.corp.test", "192.0.2.3", 60),
			address("db.corp.test", "fd00:9::2", 120), alias("www.corp.test", "db.corp.test"), alias("far.corp.test", "far.example.org"),
			alias("peer.corp.test", "web-1.mesh.example"), alias("lost.corp.test", "nobody.mesh.example"), alias("gone.corp.test", "gone2.corp.test"),
			alias("cross.corp.test", "x.sub.corp.test"), alias("loop1.corp.test", "loop2.corp.test"), alias("loop2.corp.test", "loop1.corp.test"),
			address("*.wild.corp.test", "192.0.2.4", 60), address("own.wild.corp.test", "fd00:9::3", 60), address("a.b.wild.corp.test", "192.0.2.5", 60),
			alias("*.alias.corp.test", "db.corp.test"),
		}},
		{Domain: "sub.corp.test", Records: []Record{address("x.sub.corp.test", "192.0.2.6", 60)}},
		{Domain: "example", Records: []Record{address("mesh.example", "192.0.2.7", 60), address("up.example", "192.0.2.8", 60)}},
		{Domain: "lab.mesh.example", Records: []Record{address("a.lab.mesh.example", "192.0.2.9", 60)}},
		{Domain: "old.mesh.example", Records: []Record{address("old.mesh.example", "192.0.2.10", 60), address("b.old.mesh.example", "192.0.2.11", 60)}},
		{Domain: "empty.test"},
	}
	return c
}

func TestZonesAnswer(t *testing.T) {
	z := newZone(office(), &zone{})
	for _, test := range []struct {
		name   string
		kind   uint16
		code   int
		answer string // name, type and content of each record
		soa    string // whose domain stands in the authority section
	}{
		{"db.corp.test.", dns.TypeA, dns.RcodeSuccess, "db.corp.test. 60 A 192.0.2.2, db.corp.test. 60 A 192.0.2.3", ""},
		{"DB.Corp.Test.", dns.TypeAAAA, dns.RcodeSuccess, "DB.Corp.Test. 120 AAAA fd00:9::2", ""},
		{"corp.test.", dns.TypeA, dns.RcodeSuccess, "corp.test. 60 A 192.0.2.1", ""},
		{"db.corp.test.", dns.TypeMX, dns.RcodeSuccess, "", "corp.test."},
		{"corp.test.", dns.TypeMX, dns.RcodeSuccess, "", "corp.test."},
		{"corp.test.", dns.TypeSOA, dns.RcodeSuccess, "corp.test. 30 SOA corp.test.", ""},
		{"none.corp.test.", dns.TypeA, dns.RcodeNameError, "", "corp.test."},
		{"a.db.corp.test.", dns.TypeA, dns.RcodeNameError, "", "corp.test."},
		{"empty.test.", dns.TypeA, dns.RcodeSuccess, "", "empty.test."},
		{"x.empty.test.", dns.TypeA, dns.RcodeNameError, "", "empty.test."},
		{"notcorp.test.", dns.TypeA, dns.RcodeRefused, "", ""},
		{"test.", dns.TypeA, dns.RcodeRefused, "", ""},
		// CNAMEs
		{"www.corp.test.", dns.TypeA, dns.RcodeSuccess, "www.corp.test. 300 CNAME db.corp.test., db.corp.test. 60 A 192.0.2.2, db.corp.test. 60 A 192.0.2.3", ""},
		{"www.corp.test.", dns.TypeCNAME, dns.RcodeSuccess, "www.corp.test. 300 CNAME db.corp.test.", ""},
		{"www.corp.test.", dns.TypeMX, dns.RcodeSuccess, "www.corp.test. 300 CNAME db.corp.test.", "corp.test."},
		{"far.corp.test.", dns.TypeA, dns.RcodeSuccess, "far.corp.test. 300 CNAME far.example.org.", ""},
		{"peer.corp.test.", dns.TypeA, dns.RcodeSuccess, "peer.corp.test. 300 CNAME web-1.mesh.example., web-1.mesh.example. 30 A 100.64.0.1", ""},
		{"lost.corp.test.", dns.TypeA, dns.RcodeNameError, "lost.corp.test. 300 CNAME nobody.mesh.example.", "mesh.example."},
		{"gone.corp.test.", dns.TypeA, dns.RcodeNameError, "gone.corp.test. 300 CNAME gone2.corp.test.", "corp.test."},
		{"cross.corp.test.", dns.TypeA, dns.RcodeSuccess, "cross.corp.test. 300 CNAME x.sub.corp.test., x.sub.corp.test. 60 A 192.0.2.6", ""},
		{"loop1.corp.test.", dns.TypeA, dns.RcodeServerFailure, "", ""},
		// Wildcards
		{"any.wild.corp.test.", dns.TypeA, dns.RcodeSuccess, "any.wild.corp.test. 60 A 192.0.2.4", ""},
		{"two.levels.wild.corp.test.", dns.TypeA, dns.RcodeSuccess, "two.levels.wild.corp.test. 60 A 192.0.2.4", ""},
		{"any.wild.corp.test.", dns.TypeAAAA, dns.RcodeSuccess, "", "corp.test."},
		{"own.wild.corp.test.", dns.TypeA, dns.RcodeSuccess, "", "corp.test."},
		{"wild.corp.test.", dns.TypeA, dns.RcodeSuccess, "", "corp.test."},
		{"b.wild.corp.test.", dns.TypeA, dns.RcodeSuccess, "", "corp.test."},
		{"c.b.wild.corp.test.", dns.TypeA, dns.RcodeNameError, "", "corp.test."},
		{`x\.y.wild.corp.test.`, dns.TypeA, dns.RcodeSuccess, `x\.y.wild.corp.test. 60 A 192.0.2.4`, ""},
		{`x\.wild.corp.test.`, dns.TypeA, dns.RcodeNameError, "", "corp.test."},
		{"any.alias.corp.test.", dns.TypeAAAA, dns.RcodeSuccess, "any.alias.corp.test. 300 CNAME db.corp.test., db.corp.test. 120 AAAA fd00:9::2", ""},
		// The domain that is closest wins, and a peer wins over a zone.
		{"x.sub.corp.test.", dns.TypeA, dns.RcodeSuccess, "x.sub.corp.test. 60 A 192.0.2.6", ""},
		{"db.sub.corp.test.", dns.TypeA, dns.RcodeNameError, "", "sub.corp.test."},
		{"up.example.", dns.TypeA, dns.RcodeSuccess, "up.example. 60 A 192.0.2.8", ""},
		{"mesh.example.", dns.TypeA, dns.RcodeSuccess, "", "mesh.example."},
		{"nobody.mesh.example.", dns.TypeA, dns.RcodeNameError, "", "mesh.example."},
		{"a.lab.mesh.example.", dns.TypeA, dns.RcodeSuccess, "a.lab.mesh.example. 60 A 192.0.2.9", ""},
		{"old.mesh.example.", dns.TypeA, dns.RcodeSuccess, "old.mesh.example. 30 A 100.64.0.2", ""},
		{"b.old.mesh.example.", dns.TypeA, dns.RcodeSuccess, "b.old.mesh.example. 60 A 192.0.2.11", ""},
	} {
		t.Run(test.name+dns.TypeToString[test.kind], func(t *testing.T) {
			question := new(dns.Msg)
			question.SetQuestion(test.name, test.kind)
			answer, _ := z.answer(question)
			if answer.Rcode != test.code {
				t.Errorf("code %s, want %s", dns.RcodeToString[answer.Rcode], dns.RcodeToString[test.code])
			}
			var got []string
			for _, record := range answer.Answer {
				field := strings.Fields(record.String())
				got = append(got, strings.Join([]string{field[0], field[1], field[3], field[4]}, " "))
			}
			if diff := cmp.Diff(test.answer, strings.Join(got, ", ")); diff != "" {
				t.Error(diff)
			}
			authority := ""
			for _, record := range answer.Ns {
				if s, ok := record.(*dns.SOA); ok && s.Hdr.Ttl == 30 && s.Minttl == 30 {
					authority += s.Hdr.Name
				}
			}
			if authority != test.soa {
				t.Errorf("authority %q, want %q", authority, test.soa)
			}
			failed := test.code == dns.RcodeRefused || test.code == dns.RcodeServerFailure
			if answer.Authoritative == failed {
				t.Errorf("authoritative %v", answer.Authoritative)
			}
		})
	}
}

// TestLongChainsEnd follows as many names as the limit allows and no more.
func TestLongChainsEnd(t *testing.T) {
	custom := Zone{Domain: "corp.test"}
	for i := range 20 {
		custom.Records = append(custom.Records, alias(fmt.Sprintf("n%d.corp.test", i), fmt.Sprintf("n%d.corp.test", i+1)))
	}
	custom.Records = append(custom.Records, address("n20.corp.test", "192.0.2.1", 60))
	z := newZone(Config{Zones: []Zone{custom}}, &zone{})
	for first, code := range map[int]int{20 - chaseLimit + 1: dns.RcodeSuccess, 20 - chaseLimit: dns.RcodeServerFailure} {
		question := new(dns.Msg)
		question.SetQuestion(fmt.Sprintf("n%d.corp.test.", first), dns.TypeA)
		answer, _ := z.answer(question)
		if answer.Rcode != code || code == dns.RcodeSuccess && len(answer.Answer) != chaseLimit || code != dns.RcodeSuccess && len(answer.Answer) > 0 {
			t.Errorf("from n%d: %s with %d records", first, dns.RcodeToString[answer.Rcode], len(answer.Answer))
		}
	}
}

// FuzzZones asks zones whatever the network may send. Every answer can be sent back.
func FuzzZones(f *testing.F) {
	for _, name := range []string{
		"any.wild.corp.test.", "loop1.corp.test.", `a\.b.wild.corp.test.`, `\000.\255.corp.test.`, "*.wild.corp.test.", "corp.test.", ".", "mesh.example.",
		strings.Repeat("a.", 110) + "wild.corp.test.", strings.Repeat("a", 63) + ".alias.corp.test.",
	} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeANY, dns.TypeCNAME, 0, 65535} {
			question := new(dns.Msg)
			question.SetQuestion(name, kind)
			question.SetEdns0(1, true)
			if raw, err := question.Pack(); err == nil {
				f.Add(raw)
			}
		}
	}
	z := newZone(office(), &zone{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		question := new(dns.Msg)
		if question.Unpack(raw) != nil {
			return
		}
		answer, _ := z.answer(question)
		if !answer.Response || len(answer.Answer) > 64 {
			t.Errorf("%d records", len(answer.Answer))
		}
		if _, err := answer.Pack(); err != nil && len(question.Question) > 0 {
			if _, err := question.Pack(); err == nil {
				t.Errorf("the answer cannot be sent: %v\n%v", err, answer)
			}
		}
	})
}

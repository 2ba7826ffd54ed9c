package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func group(domains []string, upstreams ...*upstream) Nameservers {
	n := Nameservers{Domains: domains}
	for _, u := range upstreams {
		n.Servers = append(n.Servers, u.server)
	}
	return n
}

func TestTheLongestDomainIsAsked(t *testing.T) {
	short, long, former := listen(t, UDP, says("192.0.2.1", 60)), listen(t, UDP, says("192.0.2.2", 60)), listen(t, UDP, says("192.0.2.3", 60))
	config := home
	config.Nameservers = []Nameservers{group([]string{"Example.org"}, short), group([]string{"corp.example.org", "lan"}, long)}
	r := forwarding(t, config, former.server)
	for name, want := range map[string]string{
		"example.org.": "192.0.2.1", "www.example.org.": "192.0.2.1", "notcorp.example.org.": "192.0.2.1",
		"corp.example.org.": "192.0.2.2", "A.CORP.example.org.": "192.0.2.2", "nas.lan.": "192.0.2.2",
		"www.example.net.": "192.0.2.3", "notexample.org.": "192.0.2.3", "web-1.mesh.example.": "100.64.0.1",
	} {
		if answer, got := ask(t.Context(), r, name, dns.TypeA); !slices.Equal(got, []string{want}) || answer.Answer[0].Header().Name != name {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
	// A group for every name takes what was asked of the former servers.
	config.Nameservers = append(config.Nameservers, group(nil, short))
	if err := r.Set(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	before := former.questions()
	if _, got := ask(t.Context(), r, "www.example.net.", dns.TypeA); !slices.Equal(got, []string{"192.0.2.1"}) || former.questions() != before {
		t.Errorf("the group for every name: %v", got)
	}
}

func TestEveryTransportIsAsked(t *testing.T) {
	for _, over := range []Transport{UDP, TCP, TLS, HTTPS} {
		t.Run(string(over), func(t *testing.T) {
			u := listen(t, over, says("192.0.2.1", 0)) // each time anew
			named := u.server
			if over == TLS || over == HTTPS {
				named.Name = "dns.example"
			}
			for _, server := range []Server{u.server, u.server, named} {
				r := forwarding(t, Config{}, server)
				for range 3 { // on connections that stay open too
					if _, got := ask(t.Context(), r, "www.example.net.", dns.TypeA); !slices.Equal(got, []string{"192.0.2.1"}) {
						t.Fatal(got)
					}
				}
			}
			if u.questions() != 9 {
				t.Errorf("asked %d times", u.questions())
			}
		})
	}
}

func TestWrongCertificateIsNotAsked(t *testing.T) {
	for _, over := range []Transport{TLS, HTTPS} {
		u := listen(t, over, says("192.0.2.1", 60))
		u.server.Name = "other.example"
		if answer, _ := ask(t.Context(), forwarding(t, Config{}, u.server), "www.example.net.", dns.TypeA); answer.Rcode != dns.RcodeServerFailure || u.questions() != 0 {
			t.Errorf("%s: %v", over, answer)
		}
	}
}

func TestLongAnswersComeOverTCP(t *testing.T) {
	u := listen(t, UDP, truncating(func(question *dns.Msg) *dns.Msg {
		m := new(dns.Msg)
		m.SetReply(question)
		for i := range 200 {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: question.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, byte(i))})
		}
		return m
	}))
	if _, got := ask(t.Context(), forwarding(t, Config{}, u.server), "many.example.net.", dns.TypeA); len(got) != 200 {
		t.Errorf("%d addresses", len(got))
	}
}

// truncating cuts answers to questions that came with the size of a datagram and
// were not repeated over TCP; the second question is the one over TCP.
func truncating(answer func(*dns.Msg) *dns.Msg) func(*dns.Msg) *dns.Msg {
	var mu sync.Mutex
	seen := 0
	return func(question *dns.Msg) *dns.Msg {
		mu.Lock()
		defer mu.Unlock()
		m := answer(question)
		if seen++; seen == 1 {
			m.Truncate(udpSize)
		}
		return m
	}
}

func TestAServerThatFailsComesLast(t *testing.T) {
	for name, first := range map[string]func(*dns.Msg) *dns.Msg{
		"refuses": fails(dns.RcodeRefused), "fails": fails(dns.RcodeServerFailure), "is silent": silent,
		"lies": func(question *dns.Msg) *dns.Msg {
			m := says("192.0.2.66", 60)(question)
			m.Question[0].Name = "other."
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := listen(t, UDP, first), listen(t, UDP, says("192.0.2.1", 0))
			r := forwarding(t, Config{}, bad.server, good.server)
			first := func() Server { return r.outside.order([]Server{bad.server, good.server}, time.Now())[0] }
			for range 3 {
				if _, got := ask(t.Context(), r, "www.example.net.", dns.TypeA); !slices.Equal(got, []string{"192.0.2.1"}) {
					t.Fatal(got)
				}
				if first() != good.server {
					t.Error("the bad one is asked first again")
				}
			}
			if bad.questions() == 0 {
				t.Error("the bad one was never asked")
			}
			r.NetworkChanged()
			if first() != bad.server {
				t.Error("in another network it is not asked first again")
			}
		})
	}
}

func TestFailuresArePassedOn(t *testing.T) {
	u := listen(t, UDP, fails(dns.RcodeServerFailure))
	answer, _ := ask(t.Context(), forwarding(t, Config{}, u.server), "www.example.net.", dns.TypeA)
	if answer.Rcode != dns.RcodeServerFailure || answer.Authoritative {
		t.Error(answer)
	}
	if answer, _ := ask(t.Context(), forwarding(t, Config{}), "www.example.net.", dns.TypeA); answer.Rcode != dns.RcodeRefused {
		t.Error("with nobody to ask:", answer)
	}
	own := home
	own.Addresses = []netip.Addr{netip.MustParseAddr("100.64.0.1")}
	own.Nameservers = []Nameservers{{Servers: []Server{{Addr: netip.MustParseAddrPort("100.64.0.1:53")}}}}
	if answer, _ := ask(t.Context(), forwarding(t, own), "www.example.net.", dns.TypeA); answer.Rcode != dns.RcodeServerFailure {
		t.Error("asking itself:", answer)
	}
}

func TestTheSameQuestionIsAskedOnce(t *testing.T) {
	release := make(chan struct{})
	u := listen(t, TCP, func(question *dns.Msg) *dns.Msg {
		<-release
		return says("192.0.2.1", 60)(question)
	})
	r := forwarding(t, Config{}, u.server)
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			if _, got := ask(t.Context(), r, "www.example.net.", dns.TypeA); !slices.Equal(got, []string{"192.0.2.1"}) {
				t.Error(got)
			}
		})
	}
	for u.questions() == 0 {
		time.Sleep(time.Millisecond) // the server notes questions, nobody tells
	}
	close(release)
	asking.Wait()
	if n := u.questions(); n != 1 { // who comes after the answer finds it in memory
		t.Errorf("asked %d times", n)
	}
}

// TestWaitingQuestionsAreBounded: servers that are silent take up no more room,
// and leave names of others theirs.
func TestWaitingQuestionsAreBounded(t *testing.T) {
	dead, alive := listen(t, UDP, silent), listen(t, UDP, says("192.0.2.1", 0))
	config := Config{Nameservers: []Nameservers{group([]string{"dead.example"}, dead), group([]string{"alive.example"}, alive)}}
	r := forwarding(t, config)
	for range maxWaiting {
		if !r.inside.enter(fmt.Sprint([]Server{dead.server})) {
			t.Fatal("no room")
		}
	}
	if answer, _ := ask(t.Context(), r, "www.dead.example.", dns.TypeA); answer.Rcode != dns.RcodeServerFailure || dead.questions() != 0 {
		t.Errorf("one more than may wait: %s, asked %d times", dns.RcodeToString[answer.Rcode], dead.questions())
	}
	for range maxWaiting + 1 {
		if _, got := ask(t.Context(), r, "www.alive.example.", dns.TypeA); !slices.Equal(got, []string{"192.0.2.1"}) {
			t.Fatal(got)
		}
	}
	if len(r.inside.waiting) != 1 {
		t.Errorf("%d servers are waited for", len(r.inside.waiting))
	}
}

// TestAnAnswerOfBeforeIsNotRemembered: a question that is on its way while the
// machine moves is answered by the former network.
func TestAnAnswerOfBeforeIsNotRemembered(t *testing.T) {
	asked, release := make(chan struct{}, 2), make(chan struct{})
	u := listen(t, TCP, func(question *dns.Msg) *dns.Msg {
		asked <- struct{}{}
		<-release
		return says("192.0.2.1", 3600)(question)
	})
	r := forwarding(t, Config{}, u.server)
	var asking sync.WaitGroup
	asking.Go(func() { ask(t.Context(), r, "www.example.net.", dns.TypeA) })
	<-asked
	r.NetworkChanged()
	close(release)
	asking.Wait()
	for range 2 { // the second time it is remembered
		if _, got := ask(t.Context(), r, "www.example.net.", dns.TypeA); !slices.Equal(got, []string{"192.0.2.1"}) {
			t.Error(got)
		}
	}
	if n := u.questions(); n != 2 {
		t.Errorf("asked %d times, want once before the change and once after it", n)
	}
}

func TestPeersMayNotAskForOthers(t *testing.T) {
	u := listen(t, UDP, says("192.0.2.1", 60))
	config := home
	config.Shared = []string{"shop.example.net"}
	r := forwarding(t, config, u.server)
	peer := netip.MustParseAddr("100.64.0.2")
	for name, want := range map[string]int{
		"www.example.net.": dns.RcodeRefused, "shop.example.net.": dns.RcodeSuccess, "a.shop.example.net.": dns.RcodeSuccess,
		"web-1.mesh.example.": dns.RcodeSuccess,
	} {
		if got := r.answer(t.Context(), new(dns.Msg).SetQuestion(name, dns.TypeA), peer).Rcode; got != want {
			t.Errorf("%s: %s, want %s", name, dns.RcodeToString[got], dns.RcodeToString[want])
		}
	}
}

func TestChainsLeaveTheZone(t *testing.T) {
	u := listen(t, UDP, says("192.0.2.1", 60))
	config := home
	config.Zones = []Zone{{Domain: "internal.example", Records: []Record{{Name: "www.internal.example", Target: "www.example.net", TTL: 60}}}}
	answer, got := ask(t.Context(), forwarding(t, config, u.server), "www.internal.example.", dns.TypeA)
	if !slices.Equal(got, []string{"192.0.2.1"}) || len(answer.Answer) != 2 {
		t.Error(answer)
	}
	// With nobody to ask the chain is told as far as it is known.
	answer, _ = ask(t.Context(), forwarding(t, config), "www.internal.example.", dns.TypeA)
	if answer.Rcode != dns.RcodeSuccess || len(answer.Answer) != 1 {
		t.Error(answer)
	}
}

func TestServersWithoutEDNS(t *testing.T) {
	u := listen(t, UDP, func(question *dns.Msg) *dns.Msg {
		if question.IsEdns0() != nil {
			return fails(dns.RcodeFormatError)(question)
		}
		return says("192.0.2.1", 60)(question)
	})
	if _, got := ask(t.Context(), forwarding(t, Config{}, u.server), "www.example.net.", dns.TypeA); !slices.Equal(got, []string{"192.0.2.1"}) {
		t.Error(got)
	}
}

func TestWishesArePassedOn(t *testing.T) {
	u := listen(t, UDP, says("192.0.2.1", 60))
	r := forwarding(t, Config{}, u.server)
	question := new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA)
	question.SetEdns0(4096, true)
	question.CheckingDisabled = true
	answer := r.Answer(t.Context(), question)
	sent := u.first()
	if opt := sent.IsEdns0(); opt == nil || !opt.Do() || opt.UDPSize() != udpSize || !sent.CheckingDisabled || !sent.RecursionDesired {
		t.Errorf("asked: %v", sent)
	}
	if opt := answer.IsEdns0(); opt == nil || !opt.Do() || !answer.RecursionAvailable {
		t.Errorf("answered: %v", answer)
	}
	if plain, _ := ask(t.Context(), r, "www.example.net.", dns.TypeA); plain.IsEdns0() != nil || u.questions() != 2 {
		t.Errorf("without wishes: %v after %d questions", plain, u.questions())
	}
}

func soaFor(ttl, minimum uint32) []dns.RR {
	return []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl}, Ns: ".", Mbox: ".", Minttl: minimum}}
}

func TestAnswersAreRememberedAsLongAsTheySay(t *testing.T) {
	a := func(ttl uint32) dns.RR {
		return &dns.A{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: net.IPv4(192, 0, 2, 1)}
	}
	cname := &dns.CNAME{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 20}, Target: "b."}
	for name, test := range map[string]struct {
		code   int
		answer []dns.RR
		ns     []dns.RR
		want   time.Duration
	}{
		"one record":           {answer: []dns.RR{a(60)}, want: time.Minute},
		"the shortest":         {answer: []dns.RR{a(60), cname}, want: 20 * time.Second},
		"not at all":           {answer: []dns.RR{a(0)}, want: 0},
		"too long":             {answer: []dns.RR{a(1 << 20)}, want: maxPositive},
		"highest bit":          {answer: []dns.RR{a(1 << 31)}, want: 0},
		"no name":              {code: dns.RcodeNameError, ns: soaFor(90, 60), want: time.Minute},
		"no name, shorter SOA": {code: dns.RcodeNameError, ns: soaFor(30, 60), want: 30 * time.Second},
		"no name, no SOA":      {code: dns.RcodeNameError, want: 0},
		"no type":              {ns: soaFor(60, 60), want: time.Minute},
		"no type, no SOA":      {want: 0},
		"chain to nothing":     {answer: []dns.RR{cname}, ns: soaFor(60, 60), want: 20 * time.Second},
		"long nothing":         {code: dns.RcodeNameError, ns: soaFor(1<<20, 1<<20), want: maxNegative},
		"failure":              {code: dns.RcodeServerFailure, ns: soaFor(60, 60), want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			answer := new(dns.Msg).SetQuestion("a.", dns.TypeA)
			answer.Rcode, answer.Answer, answer.Ns = test.code, test.answer, test.ns
			c, key, now := newCache(), cacheKey{name: "a", kind: dns.TypeA}, time.Now()
			c.put(key, answer, now)
			for _, after := range []time.Duration{0, test.want / 2, test.want - time.Nanosecond, test.want} {
				got := c.get(key, now.Add(after))
				if (got != nil) != (after < test.want && after >= 0) {
					t.Fatalf("after %s: %v", after, got)
				}
				if got == nil {
					continue
				}
				for i, record := range append(got.Answer, got.Ns...) {
					was := append(slices.Clone(test.answer), test.ns...)[i].Header().Ttl
					if want := was - uint32(after/time.Second); record.Header().Ttl != want {
						t.Errorf("after %s: %d seconds left, want %d", after, record.Header().Ttl, want)
					}
				}
			}
		})
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	c, now := newCache(), time.Now()
	answer := says("192.0.2.1", 60)(new(dns.Msg).SetQuestion("a.", dns.TypeA))
	key := func(i int) cacheKey {
		return cacheKey{name: strings.Repeat("x", i%50) + string(rune('0'+i/50)), kind: uint16(i)}
	}
	for i := range cacheSize + 10 {
		c.put(key(i), answer, now)
		c.get(key(0), now) // is used, and stays
	}
	if len(c.entries) != cacheSize || c.order.Len() != cacheSize || c.get(key(0), now) == nil || c.get(key(1), now) != nil {
		t.Errorf("%d entries", len(c.entries))
	}
	big := answer.Copy()
	for range 500 {
		big.Answer = append(big.Answer, big.Answer[0])
	}
	c.put(cacheKey{name: "big"}, big, now)
	if c.get(cacheKey{name: "big"}, now) != nil {
		t.Error("a big answer is remembered")
	}
}

func TestSharedAnswersAreNotChanged(t *testing.T) {
	u := listen(t, UDP, says("192.0.2.1", 60))
	r := forwarding(t, Config{}, u.server)
	for _, name := range []string{"www.example.net.", "WWW.example.net.", "www.Example.Net."} {
		answer, _ := ask(t.Context(), r, name, dns.TypeA)
		if diff := cmp.Diff(name, answer.Answer[0].Header().Name); diff != "" {
			t.Error(diff)
		}
	}
	if u.questions() != 1 {
		t.Errorf("asked %d times", u.questions())
	}
}

// FuzzAnswerOfServer lets a server say anything at all.
func FuzzAnswerOfServer(f *testing.F) {
	question := new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA)
	for _, answer := range []*dns.Msg{says("192.0.2.1", 60)(question), fails(dns.RcodeNameError)(question), {}} {
		answer.Ns = soaFor(60, 60)
		if raw, err := answer.Pack(); err == nil {
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		said := new(dns.Msg)
		if said.Unpack(raw) != nil || !answers(question, said) {
			return
		}
		c, now := newCache(), time.Now()
		c.put(keyOf(question), said, now)
		remembered := c.get(keyOf(question), now.Add(time.Second))
		if remembered != nil && lifetime(said) > maxPositive {
			t.Errorf("remembered for %s", lifetime(said))
		}
		m, rest := newZone(home, &zone{}).answer(question)
		m.Answer = append(m.Answer, said.Answer...)
		m.Truncate(dns.MinMsgSize)
		if _, err := m.Pack(); err != nil && rest != "" && said.Len() < dns.MinMsgSize/2 {
			t.Skip("what cannot be packed is not sent")
		}
		(&Resolver{answered: nil}).tell(t.Context(), m)
	})
}

func TestTheAgentItselfAsksTheFormerServers(t *testing.T) {
	network, former := listen(t, UDP, says("192.0.2.1", 60)), listen(t, UDP, says("192.0.2.2", 60))
	config := home
	config.Nameservers = []Nameservers{group(nil, network)}
	r := forwarding(t, config, former.server)
	names := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return r.DialOutside(ctx) }}
	got, err := names.LookupNetIP(t.Context(), "ip", "control.example.net.")
	if err != nil || len(got) != 1 || got[0].String() != "192.0.2.2" {
		t.Errorf("%v, %v", got, err)
	}
	if n := network.questions(); n != 0 {
		t.Errorf("the servers of the network were asked %d times", n)
	}
}

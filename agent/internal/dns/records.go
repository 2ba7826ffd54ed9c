package dns

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// A Zone is a domain whose names this machine knows besides those of peers.
type Zone struct {
	// Domain has no final dot.
	Domain string
	// Search says whether the domain is a search domain of the machine.
	Search  bool
	Records []Record
}

// A Record is one record of a zone. Either Addr or Target is given.
type Record struct {
	// Name is the full name without a final dot; "*." in front stands for all names there that do not exist
	// (RFC 4592).
	Name string
	// Addr is the content of A and AAAA records.
	Addr netip.Addr
	// Target is the content of CNAME records, without a final dot.
	Target string
	// TTL is in seconds.
	TTL uint32
}

// chaseLimit bounds how many CNAMEs one answer follows. Chains of people have two or three; a loop has no end.
const chaseLimit = 8

// A ground is a zone that was made ready for questions. It does not change.
type ground struct {
	domain string
	// names holds every name that exists: those with records, and those between them and the domain, with none
	// (RFC 4592, section 2.2.2). Wildcards stand under their own name.
	names map[string][]Record
}

func newGround(z Zone) *ground {
	g := &ground{domain: canonical(z.Domain), names: map[string][]Record{}}
	g.names[g.domain] = nil
	for _, r := range z.Records {
		name := canonical(r.Name)
		g.names[name] = append(g.names[name], r)
		for above, ok := parent(name); ok && within(above, g.domain); above, ok = parent(above) {
			if _, known := g.names[above]; known {
				break
			}
			g.names[above] = nil
		}
	}
	return g
}

// canonical is a name in lower case without the final dot.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// within reports whether a name is the domain or lies below it.
func within(name, domain string) bool {
	return name == domain || domain != "" && strings.HasSuffix(name, "."+domain)
}

// parent is the name without its first label; a dot in a label is written with a backslash (RFC 4343, section 2.1).
func parent(name string) (string, bool) {
	at, end := dns.NextLabel(name, 0)
	if end || at >= len(name) {
		return "", false
	}
	return name[at:], true
}

// groundOf returns the zone with the longest domain that holds the name; nil for none.
func (z *zone) groundOf(name string) *ground {
	for at, ok := name, true; ok; at, ok = parent(at) {
		if g := z.grounds[at]; g != nil {
			return g
		}
	}
	return nil
}

// inGround reports whether the zones answer for a name: it is in one of them, no peer has it, and the domain of the peers
// is not closer to it.
func (z *zone) inGround(name string) bool {
	g := z.groundOf(name)
	if g == nil {
		return false
	}
	_, peer := z.peer(name)
	return !peer && (!within(name, z.domain) || len(g.domain) > len(z.domain))
}

// peer returns the peer that has a full name.
func (z *zone) peer(name string) (Host, bool) {
	label, below := strings.CutSuffix(name, "."+z.domain)
	if z.domain == "" || !below {
		return Host{}, false
	}
	return z.hosts.Get(label)
}

// find returns the records of a name, from the wildcard that covers it if it does not exist itself (RFC 1034,
// section 4.3.2; RFC 4592, section 3.3.1); exists is false for a name without either.
func (g *ground) find(name string) (records []Record, exists bool) {
	if records, exists = g.names[name]; exists {
		return records, true
	}
	// The closest name above that exists is the only one whose wildcard counts.
	for above, ok := parent(name); ok && within(above, g.domain); above, ok = parent(above) {
		if _, known := g.names[above]; !known {
			continue
		}
		records, exists = g.names["*."+above]
		return records, exists
	}
	return nil, false
}

// answerRecords answers a question about a name of a zone. It follows CNAMEs through the zones and to the names of peers,
// and returns the name at which a chain leaves them (RFC 1034, section 3.6.2); empty when it does not. A chain that has no
// end is a failure.
func (z *zone) answerRecords(m *dns.Msg, q dns.Question) (rest string) {
	m.Authoritative = true
	owner := q.Name
	for range chaseLimit {
		name := canonical(owner)
		if !z.inGround(name) {
			return z.answerEnd(m, q, owner, name)
		}
		g := z.groundOf(name)
		records, exists := g.find(name)
		if !exists {
			m.Rcode = dns.RcodeNameError
			m.Ns = append(m.Ns, soa(g.domain))
			return ""
		}
		next := g.tell(m, q, owner, records)
		if next == "" {
			return ""
		}
		owner = dns.Fqdn(next)
	}
	m.Answer, m.Authoritative, m.Rcode = nil, false, dns.RcodeServerFailure
	return ""
}

// answerEnd answers for the end of a chain that is in no zone: a name below the domain of the peers. One elsewhere, of
// which nothing is known here, it returns.
func (z *zone) answerEnd(m *dns.Msg, q dns.Question, owner, name string) (rest string) {
	q.Name = owner
	switch {
	case z.domain == "" || !within(name, z.domain):
		return owner
	case name == z.domain:
		z.answerApex(m, q)
	default:
		z.answerHost(m, q, strings.TrimSuffix(name, "."+z.domain), z.domain)
	}
	return ""
}

// tell adds the records of one name to the answer and returns the name to go on with; empty when the answer is whole.
func (g *ground) tell(m *dns.Msg, q dns.Question, owner string, records []Record) (next string) {
	told := false
	for _, r := range records {
		rr := r.rr(owner)
		kind := rr.Header().Rrtype
		if kind == q.Qtype || q.Qtype == dns.TypeANY || kind == dns.TypeCNAME {
			m.Answer, told = append(m.Answer, rr), true
		}
		if kind == dns.TypeCNAME && q.Qtype != dns.TypeCNAME && q.Qtype != dns.TypeANY {
			next = r.Target
		}
	}
	if canonical(owner) == g.domain && (q.Qtype == dns.TypeSOA || q.Qtype == dns.TypeANY) {
		m.Answer = append(m.Answer, soa(g.domain))
		return ""
	}
	if !told {
		m.Ns = append(m.Ns, soa(g.domain)) // the name exists, the type does not (RFC 2308, section 2.2)
	}
	return next
}

// rr is the record as an answer with the given owner, which a wildcard takes from the question.
func (r Record) rr(owner string) dns.RR {
	head := dns.RR_Header{Name: owner, Class: dns.ClassINET, Ttl: r.TTL}
	switch {
	case r.Target != "":
		head.Rrtype = dns.TypeCNAME
		return &dns.CNAME{Hdr: head, Target: dns.Fqdn(r.Target)}
	case r.Addr.Is4():
		head.Rrtype = dns.TypeA
		return &dns.A{Hdr: head, A: r.Addr.AsSlice()}
	}
	head.Rrtype = dns.TypeAAAA
	return &dns.AAAA{Hdr: head, AAAA: r.Addr.AsSlice()}
}

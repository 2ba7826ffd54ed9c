package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/wattlenet/wattle/internal/table"
)

// udpSize is the largest answer we offer to take and give over UDP: what fits
// into the tunnel's least MTU of 1280 bytes.
const udpSize = 1232

// zone is what one Config makes known. It does not change.
type zone struct {
	domain   string // lower case, no final dot
	networks []netip.Prefix
	reverse  map[string]bool               // domains of the reverse names of networks
	hosts    table.Table[string, Host]     // by label, lower case
	names    table.Table[netip.Addr, Host] // by address
	zones    []Zone
	grounds  map[string]*ground // by domain
	guide    *guide
	shared   []string // domains, canonical
	own      map[netip.Addr]bool
}

// newZone makes a zone of c out of a former one.
func newZone(c Config, former *zone) *zone {
	z := &zone{
		domain:   strings.ToLower(strings.Trim(c.Domain, ".")),
		networks: c.Networks,
		reverse:  former.reverse,
		hosts:    c.Hosts,
		names:    reverse(former, c.Hosts),
		zones:    c.Zones,
		grounds:  former.grounds,
		guide:    newGuide(c.Nameservers, c.Addresses),
		own:      make(map[netip.Addr]bool, len(c.Addresses)),
	}
	for _, addr := range c.Addresses {
		z.own[addr] = true
	}
	if !slices.Equal(former.networks, c.Networks) {
		z.reverse = map[string]bool{}
		for _, network := range c.Networks {
			for _, domain := range ReverseDomains(network) {
				z.reverse[domain] = true
			}
		}
	}
	for _, domain := range c.Shared {
		z.shared = append(z.shared, canonical(domain))
	}
	if !slices.EqualFunc(former.zones, c.Zones, sameZones) {
		z.grounds = make(map[string]*ground, len(c.Zones))
		for _, custom := range c.Zones {
			g := newGround(custom)
			z.grounds[g.domain] = g
		}
	}
	return z
}

func sameZones(a, b Zone) bool {
	return a.Domain == b.Domain && a.Search == b.Search && slices.Equal(a.Records, b.Records)
}

// reverse returns the hosts by address. The name of a host counts there, none of
// its aliases.
func reverse(former *zone, hosts table.Table[string, Host]) table.Table[netip.Addr, Host] {
	edit := former.names.Edit()
	each := func(label string, host *Host, do func(netip.Addr)) {
		if host == nil || label != strings.ToLower(host.Name) {
			return
		}
		for _, addr := range []netip.Addr{host.IPv4, host.IPv6} {
			if addr.IsValid() {
				do(addr)
			}
		}
	}
	for label, host := range table.Diff(former.hosts, hosts, table.Equal) {
		each(label, host.Was, edit.Delete)
	}
	for label, host := range table.Diff(former.hosts, hosts, table.Equal) {
		each(label, host.Is, func(addr netip.Addr) { edit.Set(addr, *host.Is) })
	}
	return edit.Table()
}

// serves reports whether whoever asks from an address may have a name of others
// answered: this machine itself may, peers may for the shared domains.
func (z *zone) serves(from netip.Addr, name string) bool {
	return from.IsLoopback() || z.own[from] ||
		slices.ContainsFunc(z.shared, func(domain string) bool { return within(canonical(name), domain) })
}

// find looks a lower-case name up: a label, or a label below the domain.
func (z *zone) find(name string) (Host, bool) {
	if z.domain != "" {
		name = strings.TrimSuffix(name, "."+z.domain)
	}
	return z.hosts.Get(name)
}

// answer makes the response (RFC 1035, section 4.1; RFC 2308 for what is not
// there) and returns the name that has to be asked of others to complete it;
// empty for none. A question about a name of others is refused so far.
func (z *zone) answer(question *dns.Msg) (m *dns.Msg, rest string) {
	m = new(dns.Msg)
	m.SetReply(question)
	m.RecursionAvailable = false
	if opt := question.IsEdns0(); opt != nil {
		m.SetEdns0(udpSize, opt.Do())
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
			return m, ""
		}
	}
	if question.Opcode != dns.OpcodeQuery {
		m.Rcode = dns.RcodeNotImplemented
		return m, ""
	}
	if len(question.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		return m, ""
	}
	q := question.Question[0]
	name := canonical(q.Name)
	switch {
	case q.Qclass != dns.ClassINET, q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR:
		m.Rcode = dns.RcodeRefused
	case z.inGround(name):
		rest = z.answerRecords(m, q)
	case z.domain != "" && name == z.domain:
		z.answerApex(m, q)
	case z.domain != "" && strings.HasSuffix(name, "."+z.domain):
		z.answerHost(m, q, strings.TrimSuffix(name, "."+z.domain), z.domain)
	case strings.HasSuffix(name, ".in-addr.arpa"), strings.HasSuffix(name, ".ip6.arpa"):
		rest = z.answerReverse(m, q, name)
	default:
		if !z.hosts.Has(name) {
			m.Rcode, rest = dns.RcodeRefused, q.Name
			break
		}
		z.answerHost(m, q, name, name)
	}
	return m, rest
}

func (z *zone) answerApex(m *dns.Msg, q dns.Question) {
	m.Authoritative = true
	if q.Qtype == dns.TypeSOA || q.Qtype == dns.TypeANY {
		m.Answer = append(m.Answer, soa(z.domain))
		return
	}
	m.Ns = append(m.Ns, soa(z.domain))
}

func (z *zone) answerHost(m *dns.Msg, q dns.Question, label, apex string) {
	m.Authoritative = true
	host, ok := z.hosts.Get(label)
	if !ok {
		m.Rcode = dns.RcodeNameError
		m.Ns = append(m.Ns, soa(apex))
		return
	}
	if host.IPv4.IsValid() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY) {
		m.Answer = append(m.Answer, &dns.A{Hdr: header(q.Name, dns.TypeA), A: host.IPv4.AsSlice()})
	}
	if host.IPv6.IsValid() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY) {
		m.Answer = append(m.Answer, &dns.AAAA{Hdr: header(q.Name, dns.TypeAAAA), AAAA: host.IPv6.AsSlice()})
	}
	if len(m.Answer) == 0 { // the name exists, the type does not
		m.Ns = append(m.Ns, soa(apex))
	}
}

// answerReverse answers for the names of addresses of our networks, and for those
// between them and the domains of the networks, which exist without records.
func (z *zone) answerReverse(m *dns.Msg, q dns.Question, name string) (rest string) {
	apex, ok := z.reverseApex(name)
	if !ok {
		m.Rcode = dns.RcodeRefused
		return q.Name
	}
	m.Authoritative = true
	addr, whole := reverseAddr(name)
	host, known := z.names.Get(addr)
	switch {
	case known && (q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY):
		full := host.Name
		if z.domain != "" {
			full += "." + z.domain
		}
		m.Answer = append(m.Answer, &dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: dns.Fqdn(full)})
		return ""
	case name == apex && (q.Qtype == dns.TypeSOA || q.Qtype == dns.TypeANY):
		m.Answer = append(m.Answer, soa(apex))
		return ""
	case !known && (whole || !between(name)):
		m.Rcode = dns.RcodeNameError
	}
	m.Ns = append(m.Ns, soa(apex))
	return ""
}

// reverseApex returns the domain of our networks that holds a reverse name.
func (z *zone) reverseApex(name string) (apex string, ok bool) {
	for at, more := name, true; more; at, more = parent(at) {
		if z.reverse[at] {
			return at, true
		}
	}
	return "", false
}

// between reports whether a reverse name has fewer labels than that of an address.
func between(name string) bool {
	labels := 4 + 2
	if strings.HasSuffix(name, ".ip6.arpa") {
		labels = 32 + 2
	}
	return dns.CountLabel(name) < labels
}

// reverseAddr reads a whole reverse name: four decimal labels below
// in-addr.arpa (RFC 1035, section 3.5), or 32 hexadecimal digits below
// ip6.arpa (RFC 3596, section 2.5).
func reverseAddr(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(rest, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		slices.Reverse(labels)
		addr, err := netip.ParseAddr(strings.Join(labels, "."))
		return addr, err == nil && addr.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	labels := strings.Split(rest, ".")
	if !ok || len(labels) != 32 {
		return netip.Addr{}, false
	}
	slices.Reverse(labels)
	var text strings.Builder
	for i, label := range labels {
		if len(label) != 1 {
			return netip.Addr{}, false
		}
		if i > 0 && i%4 == 0 {
			text.WriteByte(':')
		}
		text.WriteString(label)
	}
	addr, err := netip.ParseAddr(text.String())
	return addr, err == nil && addr.Is6()
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: uint32(TTL.Seconds())}
}

// soa is the record that lets a resolver remember for TTL that a name or a type
// is not there (RFC 2308, section 3).
func soa(apex string) *dns.SOA {
	return &dns.SOA{
		Hdr:     header(dns.Fqdn(apex), dns.TypeSOA),
		Ns:      dns.Fqdn(apex),
		Mbox:    "hostmaster." + dns.Fqdn(apex),
		Serial:  1,
		Refresh: 3600,
		Retry:   600,
		Expire:  86400,
		Minttl:  uint32(TTL.Seconds()),
	}
}

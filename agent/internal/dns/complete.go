package dns

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// A completion is an answer that goes on with what others say:
//
//	www.corp.example.  CNAME  app.corp.example.      their name server
//	app.corp.example.  CNAME  web-1.mesh.example.    their name server, which knows no more
//	web-1.mesh.example.  A    100.64.0.7             this machine
type completion struct {
	r        *Resolver
	zone     *zone
	from     netip.Addr // who asks
	question *dns.Msg
	m        *dns.Msg // the answer so far
}

// run asks others for rest, and goes on where the names that they lead to are
// answered by somebody else.
func (c *completion) run(ctx context.Context, rest string) {
	kind := c.question.Question[0].Qtype
	for range chaseLimit {
		found, err := c.ask(ctx, rest, kind)
		if errors.Is(err, errNobody) {
			return
		}
		c.m.RecursionAvailable = true
		if err != nil {
			c.r.logger.Debug("no name server answers", "error", err)
			c.fail(dns.ExtendedErrorCodeNoReachableAuthority, "no name server that is asked for this name answers")
			return
		}
		c.take(found, rest)
		next := leadsTo(found.Answer, rest, kind)
		part, onward := c.other(next, rest, kind)
		if part == nil {
			return
		}
		// What a server says of names that are not its own does not count.
		c.m.Answer, c.m.Ns, c.m.AuthenticatedData = append(c.m.Answer, part.Answer...), part.Ns, false
		c.m.Rcode = part.Rcode
		if onward == "" {
			return
		}
		c.m.Rcode, rest = dns.RcodeSuccess, onward
	}
	c.fail(dns.ExtendedErrorCodeOther, "the names lead to each other without an end")
}

// ask asks the servers that are for a name.
func (c *completion) ask(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	asked := new(dns.Msg).SetQuestion(name, kind)
	opt := c.question.IsEdns0()
	asked.SetEdns0(udpSize, opt != nil && opt.Do())
	asked.CheckingDisabled = c.question.CheckingDisabled
	return c.r.ask(ctx, c.zone, asked)
}

// take adds what others found about a name. That it is authentic they can say of
// their own part only (RFC 4035, section 3.2.3).
func (c *completion) take(found *dns.Msg, name string) {
	c.m.Rcode, c.m.AuthenticatedData = found.Rcode, found.AuthenticatedData && len(c.m.Answer) == 0
	for _, record := range found.Answer {
		if head := record.Header(); strings.EqualFold(head.Name, name) {
			head.Name = name // as it was asked for, not as another one did
		}
	}
	c.m.Answer, c.m.Ns = append(c.m.Answer, found.Answer...), append(c.m.Ns, found.Ns...)
	if theirs := found.IsEdns0(); theirs != nil {
		for _, option := range theirs.Option {
			if told, ok := option.(*dns.EDNS0_EDE); ok {
				explain(c.m, told.InfoCode, told.ExtraText)
			}
		}
	}
}

// other returns the answer about a name that a chain has led to from another one,
// if it is ours or that of other servers; nil if it is not, since those that were
// asked have said all there is. onward is the name to go on with.
func (c *completion) other(next, name string, kind uint16) (part *dns.Msg, onward string) {
	if next == "" {
		return nil, ""
	}
	part, onward = c.zone.answer(new(dns.Msg).SetQuestion(next, kind))
	if onward == "" {
		return part, ""
	}
	if !c.zone.serves(c.from, onward) || c.zone.guide.alike(canonical(name), canonical(onward)) {
		return nil, ""
	}
	return part, onward
}

// fail makes the answer one of a failure.
func (c *completion) fail(code uint16, text string) {
	c.m.Rcode, c.m.Answer, c.m.Ns, c.m.Authoritative, c.m.AuthenticatedData = dns.RcodeServerFailure, nil, nil, false, false
	explain(c.m, code, text)
}

// leadsTo returns the name that CNAMEs lead to from another one, if no record of
// the kind is there; else it is empty.
func leadsTo(records []dns.RR, name string, kind uint16) string {
	at := name
	for range records {
		alias := slices.IndexFunc(records, func(record dns.RR) bool {
			return record.Header().Rrtype == dns.TypeCNAME && strings.EqualFold(record.Header().Name, at)
		})
		if alias < 0 {
			break
		}
		at = records[alias].(*dns.CNAME).Target
	}
	answered := slices.ContainsFunc(records, func(record dns.RR) bool {
		return record.Header().Rrtype == kind && strings.EqualFold(record.Header().Name, at)
	})
	if answered || at == name || kind == dns.TypeCNAME || kind == dns.TypeANY {
		return ""
	}
	return at
}

// explain says why an answer is as it is, to who asked with EDNS (RFC 8914,
// section 2).
func explain(m *dns.Msg, code uint16, text string) {
	if opt := m.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: code, ExtraText: text})
	}
}

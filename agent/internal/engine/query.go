package engine

import (
	"cmp"
	"context"
	"net/netip"
	"strings"

	wire "github.com/miekg/dns"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

// Query asks the resolver of this machine, past its sockets, so that it answers
// without an interface too.
func (e *Engine) Query(ctx context.Context, request local.QueryRequest) (local.QueryAnswer, error) {
	_, running, notice := e.now()
	if running == nil {
		return local.QueryAnswer{}, local.Errorf(program.ExitNotEnrolled, "%s", cmp.Or(notice, "this machine is not connected; run `wattle up`"))
	}
	kind, known := wire.StringToType[strings.ToUpper(cmp.Or(request.Type, "A"))]
	if !known {
		return local.QueryAnswer{}, local.Errorf(program.ExitUsage, "%q is no type of record; use one such as A, AAAA, CNAME or PTR", request.Type)
	}
	name, err := running.question(request.Name, kind)
	if err != nil {
		return local.QueryAnswer{}, err
	}
	answer := running.machine.Resolver.Answer(ctx, new(wire.Msg).SetQuestion(name, kind))
	said := local.QueryAnswer{
		Schema: local.QuerySchema, Name: name, Type: wire.TypeToString[kind], Code: wire.RcodeToString[answer.Rcode],
		Authoritative: answer.Authoritative, Records: []string{},
	}
	for _, record := range answer.Answer {
		said.Records = append(said.Records, strings.ReplaceAll(record.String(), "\t", " "))
	}
	return said, nil
}

// question is the whole name that a text stands for. An address is asked for in
// reverse; a single label belongs to the network's own domain.
func (l *link) question(text string, kind uint16) (string, error) {
	if addr, err := netip.ParseAddr(text); err == nil && kind == wire.TypePTR {
		return wire.ReverseAddr(addr.String())
	}
	if _, ok := wire.IsDomainName(text); !ok || text == "" {
		return "", local.Errorf(program.ExitUsage, "%q is no name", text)
	}
	_, wanted, _, _ := l.snapshot()
	if !strings.Contains(text, ".") && wanted != nil && wanted.self.view.DnsDomain != "" {
		text += "." + wanted.self.view.DnsDomain
	}
	return wire.Fqdn(text), nil
}

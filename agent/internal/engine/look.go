package engine

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/program"
	"github.com/wattlenet/wattle/internal/verdict"
)

// A sight is the network map in force, to answer questions from.
type sight struct {
	link   *link
	wanted *desired
	m      *mapstate.Map
}

// look returns the map in force, or why there is none.
func (e *Engine) look() (sight, error) {
	_, running, notice := e.now()
	if running == nil {
		return sight{}, local.Errorf(program.ExitNotEnrolled, "%s", cmp.Or(notice, "this machine is not connected; run `wattle up`"))
	}
	_, wanted, applied, _ := running.snapshot()
	if wanted == nil {
		return sight{}, local.Errorf(program.ExitTimedOut, "there is no network map yet; `wattle wait` blocks until there is one")
	}
	return sight{running, wanted, applied}, nil
}

// An end is one end of a flow.
type end struct {
	text  string // as it was asked for
	self  bool
	peer  *peer              // nil unless it is another machine
	route *api.CompiledRoute // nil unless it lies behind machines
	addr  netip.Addr         // not valid when only names tell
}

func (x end) String() string {
	switch {
	case x.self:
		return "this machine"
	case x.peer != nil:
		return x.peer.entry.Name
	}
	return x.text
}

// end finds out what a name or an address is. It may be nothing of the network.
func (s sight) end(text string) end {
	found := end{text: text}
	if addr, err := netip.ParseAddr(text); err == nil {
		found.addr = addr.Unmap()
	} else if host, known := s.link.machine.Resolver.Lookup(text); known {
		found.addr = host.IPv4
		if !found.addr.IsValid() {
			found.addr = host.IPv6
		}
	}
	if !found.addr.IsValid() {
		found.route = s.routeOfName(text)
		return found
	}
	found.self = found.addr == s.wanted.self.ipv4.Addr() || found.addr == s.wanted.self.ipv6.Addr()
	if p, other := s.wanted.crowd.withAddress(found.addr); other {
		found.peer = &p
	}
	if !found.self && found.peer == nil {
		found.route = s.routeOf(found.addr)
	}
	return found
}

// routeOf returns the route with the longest prefix that holds an address.
func (s sight) routeOf(addr netip.Addr) (best *api.CompiledRoute) {
	length := -1
	for _, route := range s.m.Routes.All() {
		if route.Prefix == nil {
			continue
		}
		prefix, err := netip.ParsePrefix(*route.Prefix)
		if err == nil && prefix.Contains(addr) && prefix.Bits() > length {
			best, length = &route, prefix.Bits()
		}
	}
	return best
}

// routeOfName returns a route of a domain that holds a name.
func (s sight) routeOfName(name string) *api.CompiledRoute {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for _, route := range s.m.Routes.All() {
		if route.Domains == nil {
			continue
		}
		for _, domain := range *route.Domains {
			suffix, wild := strings.CutPrefix(domain, "*")
			if name == domain || wild && strings.HasSuffix(name, suffix) {
				return &route
			}
		}
	}
	return nil
}

// routers are the names of those who lead to a route, the preferred first.
func (s sight) routers(route api.CompiledRoute) []string {
	names := []string{}
	for _, candidate := range s.m.Candidates(route) {
		names = append(names, s.m.Peers.At(candidate.Ordinal).Name)
	}
	return names
}

// Whois says who has an address or a name.
func (e *Engine) Whois(_ context.Context, request local.WhoisRequest) (local.WhoisAnswer, error) {
	s, err := e.look()
	if err != nil {
		return local.WhoisAnswer{}, err
	}
	said := local.WhoisAnswer{Schema: local.WhoisSchema, Addresses: []string{}, Routers: []string{}}
	domain := ""
	if s.m.Self.DnsDomain != "" {
		domain = "." + s.m.Self.DnsDomain
	}
	switch found := s.end(request.Address); {
	case found.self:
		said.Kind, said.ID, said.Name, said.PublicKey = local.WhoSelf, s.m.Self.Id, s.m.Self.Name, s.m.Self.Key
		said.Addresses = addresses(s.wanted.self.ipv4.Addr(), s.wanted.self.ipv6.Addr())
		said.FQDN = said.Name + domain
	case found.peer != nil:
		said.Kind, said.ID, said.Name, said.PublicKey = local.WhoPeer, found.peer.entry.Id, found.peer.entry.Name, found.peer.entry.Key
		said.Addresses = addresses(found.peer.ipv4, found.peer.ipv6)
		said.FQDN = said.Name + domain
	case found.route != nil:
		said.Kind, said.Name, said.Routers = local.WhoRoute, found.route.Name, s.routers(*found.route)
		if found.route.Prefix != nil {
			said.Prefix = *found.route.Prefix
		}
	default:
		return said, local.Errorf(program.ExitFailed, "%s is nothing that this machine sees in the network: nobody has it, or no policy connects its machine with this one", request.Address)
	}
	return said, nil
}

// routed stands for the far end of a route where ordinals are compared: no peer
// has it.
const routed = ^uint32(0)

// judge asks the rules in force about the first packet of a flow.
func (s sight) judge(from, to end, protocol uint8, port uint16) verdict.Verdict {
	switch {
	case from.route != nil:
		return s.routedRules(*from.route, api.CompiledRuleRouteSource).Evaluate(
			verdict.Packet{Source: routed, Destination: s.m.Self.N, Protocol: protocol, Port: port})
	case to.route != nil:
		return s.routedRules(*to.route, api.CompiledRuleRouteDestination).Evaluate(
			verdict.Packet{Source: s.m.Self.N, Destination: routed, Protocol: protocol, Port: port})
	}
	return s.m.Verdict(s.link.wall()).Evaluate(verdict.Packet{Source: s.ordinal(from), Destination: s.ordinal(to), Protocol: protocol, Port: port})
}

func (s sight) ordinal(x end) uint32 {
	if x.self {
		return s.m.Self.N
	}
	return x.peer.entry.N
}

// routedRules are the rules that count now between this machine and a route at
// one end.
func (s sight) routedRules(route api.CompiledRoute, at api.CompiledRuleRoute) verdict.Rules {
	var rules []verdict.Rule
	for _, r := range s.m.InForce() {
		if r.Route == nil || *r.Route != at || r.Direction == api.CompiledRuleDirectionForward || !mapstate.TermOf(r).Holds(s.link.wall()) {
			continue
		}
		rule, _ := mapstate.RuleOf(r) // no error, since it is in force
		far, here := verdict.Only(routed), verdict.Only(s.m.Self.N)
		switch {
		case at == api.CompiledRuleRouteDestination && r.Destination == route.Id:
			rule.Source, rule.Destination = here, far
		case at == api.CompiledRuleRouteSource && r.Source == route.Id:
			rule.Source, rule.Destination = far, here
		default:
			continue
		}
		rules = append(rules, rule)
	}
	return verdict.New(rules)
}

// number is the protocol number of IP for a name of FlowRequest.
func number(protocol string, ipv6 bool) (uint8, error) {
	switch {
	case protocol == "tcp":
		return verdict.NumberTCP, nil
	case protocol == "udp":
		return verdict.NumberUDP, nil
	case protocol == "icmp" && ipv6:
		return verdict.NumberICMPv6, nil
	case protocol == "icmp":
		return verdict.NumberICMP, nil
	}
	return 0, local.Errorf(program.ExitUsage, "the protocol %q is unknown; use tcp, udp or icmp", protocol)
}

// ruling is a verdict as a sentence.
func ruling(v verdict.Verdict) string {
	switch {
	case v.Allowed:
		return "the rule " + v.Rule + " accepts it"
	case v.Rule != "":
		return "the rule " + v.Rule + " drops it"
	}
	return "no rule accepts it, so it is dropped"
}

// Access asks the rules in force on this machine, which must be one end.
func (e *Engine) Access(_ context.Context, request local.FlowRequest) (local.AccessAnswer, error) {
	s, err := e.look()
	if err != nil {
		return local.AccessAnswer{}, err
	}
	from, to := s.end(request.Source), s.end(request.Destination)
	protocol, err := number(request.Protocol, to.addr.Is6())
	if err != nil {
		return local.AccessAnswer{}, err
	}
	answer := local.AccessAnswer{
		Schema: local.AccessSchema, Source: from.String(), Destination: to.String(), Protocol: request.Protocol, Port: request.Port,
	}
	switch {
	case from.self && to.self:
		return answer, local.Errorf(program.ExitUsage, "both ends are this machine; its own traffic does not pass the rules of the network")
	case !from.self && !to.self:
		return answer, local.Errorf(program.ExitUsage, "neither end is this machine, whose rules are asked; without --local the control plane answers for all machines")
	case from.unknown() || to.unknown():
		unknown := to
		if from.unknown() {
			unknown = from
		}
		answer.Detail = fmt.Sprintf("%s is nothing that this machine sees, so nothing is let through", unknown.text)
		return answer, nil
	}
	v := s.judge(from, to, protocol, request.Port)
	answer.Allowed, answer.Rule, answer.Detail = v.Allowed, v.Rule, ruling(v)
	return answer, nil
}

func (x end) unknown() bool { return !x.self && x.peer == nil && x.route == nil }

package firewall

import (
	"fmt"
	"net/netip"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/verdict"
)

// ruleset is a Config made ready to judge packets. It does not change. The zero
// value permits nothing.
type ruleset struct {
	self     Addresses
	ordinals map[netip.Addr]uint32
	in, out  verdict.Rules
	count    int
}

// compile makes the rules of c ready. An action or protocol that is not known
// is an error: a rule half understood is not a rule.
func compile(c Config) (*ruleset, error) {
	r := &ruleset{self: c.Peers[c.Self], ordinals: make(map[netip.Addr]uint32, 2*len(c.Peers)), count: len(c.Rules)}
	for ordinal, peer := range c.Peers {
		for _, addr := range []netip.Addr{peer.IPv4, peer.IPv6} {
			if addr.IsValid() {
				r.ordinals[addr] = ordinal
			}
		}
	}
	var in, out []verdict.Rule
	for _, rule := range c.Rules {
		compiled, err := compileRule(rule)
		if err != nil {
			return nil, err
		}
		// A rule whose set is not there matches nobody.
		if source := c.Sets[rule.Source]; inward(rule) && source != nil {
			compiled.Source, compiled.Destination = source, verdict.Only(c.Self)
			in = append(in, compiled)
		}
		if destination := c.Sets[rule.Destination]; outward(rule) && destination != nil {
			compiled.Source, compiled.Destination = verdict.Only(c.Self), destination
			out = append(out, compiled)
		}
	}
	r.in, r.out = verdict.New(in), verdict.New(out)
	return r, nil
}

// compileRule leaves the ends of the rule open.
func compileRule(rule api.CompiledRule) (verdict.Rule, error) {
	protocol, ok := verdict.ParseProtocol(string(rule.Protocol))
	if !ok || rule.Action != "accept" && rule.Action != "drop" {
		return verdict.Rule{}, fmt.Errorf("rule %s: protocol %q or action %q is not known to this agent; update it", rule.Id, rule.Protocol, rule.Action)
	}
	compiled := verdict.Rule{ID: rule.Id, Drop: rule.Action == "drop", Protocol: protocol}
	if rule.Ports != nil {
		for _, ports := range *rule.Ports {
			compiled.Ports = append(compiled.Ports, verdict.PortRange{First: uint16(ports.Start), Last: uint16(ports.End)})
		}
	}
	return compiled, nil
}

// allows judges the original direction of a flow.
func (r *ruleset) allows(inbound bool, src, dst netip.Addr, protocol uint8, port uint16) bool {
	source, known := r.ordinals[src]
	if !known {
		return false
	}
	destination, known := r.ordinals[dst]
	if !known {
		return false
	}
	packet := verdict.Packet{Source: source, Destination: destination, Protocol: protocol, Port: port}
	if inbound {
		return r.in.Evaluate(packet).Allowed
	}
	return r.out.Evaluate(packet).Allowed
}

// addressed reports whether a packet runs between this machine and a peer.
func (r *ruleset) addressed(p *packet, inbound bool) bool {
	own, other := p.src, p.dst
	if inbound {
		own, other = p.dst, p.src
	}
	if own != r.self.IPv4 && own != r.self.IPv6 {
		return false
	}
	_, known := r.ordinals[other]
	return known && own != other
}

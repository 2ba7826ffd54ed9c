package firewall

import (
	"net/netip"

	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/verdict"
)

// ruleset is a Config made ready to judge packets. It does not change. The zero
// value permits nothing.
type ruleset struct {
	self     Addresses
	peers    register
	in, out  verdict.Rules
	routes   routes
	count    int
	monitors bool // there are rules that monitor
}

// compile makes the rules of c ready, out of a former ruleset. An action or
// protocol that is not known is an error: a rule half understood is not a rule.
func compile(c Config, names *learned, former *ruleset) (*ruleset, error) {
	r := &ruleset{self: c.Peers.At(c.Self), peers: former.peers.of(c.Peers), count: len(c.Rules)}
	var in, out []verdict.Rule
	var routed []routedRule
	for _, rule := range c.Rules {
		compiled, err := mapstate.RuleOf(rule)
		if err != nil {
			return nil, err
		}
		r.monitors = r.monitors || compiled.Monitor
		if rule.Route != nil {
			routed = append(routed, routedRule{rule, compiled})
			continue
		}
		// A rule whose set is not there matches nobody.
		if source := c.Sets.At(rule.Source); inward(rule) && source != nil {
			compiled.Source, compiled.Destination = source, verdict.Only(c.Self)
			in = append(in, compiled)
		}
		if destination := c.Sets.At(rule.Destination); outward(rule) && destination != nil {
			compiled.Source, compiled.Destination = verdict.Only(c.Self), destination
			out = append(out, compiled)
		}
	}
	r.in, r.out = verdict.New(in), verdict.New(out)
	r.routes = compileRoutes(c, routed, names)
	return r, nil
}

// allows reports whether judge lets a packet pass.
func (r *ruleset) allows(inbound bool, src, dst netip.Addr, protocol uint8, port uint16) bool {
	return r.judge(inbound, src, dst, protocol, port).Allowed
}

// judge judges the original direction of a flow, which came from the tunnel
// (inbound) or goes into it.
//
//	own end (this side of the tunnel)   other end   rules
//	this machine                        a peer      between peers
//	this machine                        a route     of the traffic that this machine opens, or that a route opens to it
//	a route that this machine serves    a peer      of the traffic that it carries
func (r *ruleset) judge(inbound bool, src, dst netip.Addr, protocol uint8, port uint16) verdict.Verdict {
	own, other := src, dst
	if inbound {
		own, other = dst, src
	}
	ordinal, peer := r.peers.find(other)
	mine := r.mine(own)
	switch {
	case mine && peer:
		me, _ := r.peers.find(own)
		packet := verdict.Packet{Source: ordinal, Destination: me, Protocol: protocol, Port: port}
		if !inbound {
			packet.Source, packet.Destination = me, ordinal
		}
		return r.between(inbound).Evaluate(packet)
	case mine:
		return r.routes.judge(other, use, inbound, verdict.Packet{Protocol: protocol, Port: port})
	case peer:
		return r.routes.judge(own, serve, inbound, verdict.Packet{Source: ordinal, Protocol: protocol, Port: port})
	}
	return verdict.Verdict{}
}

// between are the rules between this machine and peers.
func (r *ruleset) between(inbound bool) *verdict.Rules {
	if inbound {
		return &r.in
	}
	return &r.out
}

// watch tells note of the rules that monitor and match a packet of the original
// direction of a flow, as allows judges it.
func (r *ruleset) watch(inbound bool, p *packet, note func(rule string)) {
	own, other := p.src, p.dst
	if inbound {
		own, other = p.dst, p.src
	}
	ordinal, peer := r.peers.find(other)
	switch mine := r.mine(own); {
	case mine && peer:
		me, _ := r.peers.find(own)
		packet := verdict.Packet{Source: ordinal, Destination: me, Protocol: p.proto, Port: p.dport}
		if !inbound {
			packet.Source, packet.Destination = me, ordinal
		}
		r.between(inbound).Watched(packet, note)
	case mine:
		r.routes.watch(other, use, inbound, verdict.Packet{Protocol: p.proto, Port: p.dport}, note)
	case peer:
		r.routes.watch(own, serve, inbound, verdict.Packet{Source: ordinal, Protocol: p.proto, Port: p.dport}, note)
	}
}

func (r *ruleset) mine(addr netip.Addr) bool {
	return addr.IsValid() && (addr == r.self.IPv4 || addr == r.self.IPv6)
}

// addressed reports whether a packet runs between this machine and a peer, or
// is traffic of a route.
func (r *ruleset) addressed(p *packet, inbound bool) bool {
	own, other := p.src, p.dst
	if inbound {
		own, other = p.dst, p.src
	}
	_, peer := r.peers.find(other)
	switch mine := r.mine(own); {
	case mine && peer:
		return own != other
	case mine:
		return r.routes.hold(other)
	case peer:
		return r.routes.hold(own)
	}
	return false
}

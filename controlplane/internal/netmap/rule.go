package netmap

import (
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/verdict"
)

// A rule is one direction of an enabled policy rule. A bidirectional one is two: the second has the ends swapped and
// the same destination ports, since users who allow port 22 both ways mean the SSH servers of both sides.
type rule struct {
	id       string
	drop     bool
	monitor  bool
	pending  bool
	term     verdict.Term
	protocol api.CompiledRuleProtocol
	ports    []api.PortRange
	// sources and destinations are in the order of their names.
	sources, destinations []*base
	// sourceID and destinationID are the ids of the whole ends, for classes that do not hold them.
	sourceID, destinationID string

	// views holds the forms in which classes are told of the rule.
	views map[ruleForm]*ruleView
}

// A ruleForm is what differs between the classes that are told of one rule.
type ruleForm struct {
	direction           api.CompiledRuleDirection
	source, destination string
}

// A ruleView is a rule as a class is told of it; classes with the same form share it.
type ruleView struct {
	api.CompiledRule
	hash mapstate.Digest
	raw  []byte
	// quiet is that of the rule.
	quiet bool
	// plain is what agents are told that do not know terms: the rule without, nil for one that is quiet.
	plain *ruleView
}

// quiet reports whether the rule judges nothing, since it monitors or its time has not come. It shows nobody and hides
// nobody; those are told of it who see each other anyway.
func (r *rule) quiet() bool { return r.monitor || r.pending }

// yields reports whether the rule is told of peers only that others show.
func (r *rule) yields() bool { return r.drop || r.quiet() }

// hides reports whether the rule forbids everything between its ends, so that they need not know of each other.
func (r *rule) hides() bool {
	return r.drop && !r.quiet() && r.protocol == api.CompiledRuleProtocolAll
}

// alone reports whether the rule changes nothing else that anybody is told: it only shows those at its one end to those at
// the other.
func (r *rule) alone() bool {
	led := func(b *base) bool { return len(b.routes) > 0 }
	return !r.yields() && !resourceEnd(r.sources) && !resourceEnd(r.destinations) &&
		!slices.ContainsFunc(r.sources, led) && !slices.ContainsFunc(r.destinations, led)
}

func (r *rule) equal(o *rule) bool {
	return r.drop == o.drop && r.monitor == o.monitor && r.pending == o.pending && r.term == o.term &&
		r.protocol == o.protocol && slices.Equal(r.ports, o.ports) &&
		slices.Equal(r.sources, o.sources) && slices.Equal(r.destinations, o.destinations)
}

// view returns the form of the rule with the opposite sets of a class.
func (r *rule) view(form ruleForm) *ruleView {
	if known := r.views[form]; known != nil {
		return known
	}
	v := r.viewOf(r.compiled(form))
	r.views[form] = v
	return v
}

// viewOf is a form of the rule as it is told.
func (r *rule) viewOf(c api.CompiledRule) *ruleView {
	v := &ruleView{CompiledRule: c, hash: mapstate.HashRule(c), raw: marshal(c), quiet: r.quiet()}
	switch v.plain = v; {
	case r.quiet():
		v.plain = nil
	case c.NotAfter != nil:
		c.NotAfter = nil
		v.plain = r.viewOf(c)
	}
	return v
}

// told is the rule as agents with these gaps are told of it; nil for not at all.
func (v *ruleView) told(lacks Features) *ruleView {
	if lacks&FeatureTerms != 0 {
		return v.plain
	}
	return v
}

func (r *rule) compiled(form ruleForm) api.CompiledRule {
	c := api.CompiledRule{
		Id: r.id, Direction: form.direction, Source: form.source, Destination: form.destination,
		Action: api.CompiledRuleActionAccept, Protocol: r.protocol,
	}
	if r.drop {
		c.Action = api.CompiledRuleActionDrop
	}
	if len(r.ports) > 0 {
		c.Ports = &r.ports
	}
	if r.monitor {
		mode := api.CompiledRuleModeMonitor
		c.Mode = &mode
	}
	// What has begun needs no beginning: a machine whose clock is late shall not wait.
	if r.pending {
		c.NotBefore = &r.term.NotBefore
	}
	if !r.term.NotAfter.IsZero() {
		c.NotAfter = &r.term.NotAfter
	}
	return c
}

// protocolOf translates what people write into what packets have.
func protocolOf(r Rule) (api.CompiledRuleProtocol, []api.PortRange) {
	switch r.Protocol {
	case "", "all":
		return api.CompiledRuleProtocolAll, nil
	case "ssh", "netbird-ssh":
		return api.CompiledRuleProtocolTcp, []api.PortRange{{Start: 22, End: 22}}
	case "icmp":
		return api.CompiledRuleProtocolIcmp, nil
	}
	var ports []api.PortRange
	for _, p := range r.Ports {
		ports = append(ports, api.PortRange{Start: int(p.First), End: int(p.Last)})
	}
	slices.SortFunc(ports, func(a, b api.PortRange) int { return a.Start<<16 + a.End - b.Start<<16 - b.End })
	return api.CompiledRuleProtocol(r.Protocol), slices.Compact(ports)
}

// ends returns the sorted, unique base names of both ends of a rule.
func ends(r Rule) (sources, destinations []string) {
	return ruleEnd(r.Sources, r.SourcePeer, r.SourceResource), ruleEnd(r.Destinations, r.DestinationPeer, r.DestinationResource)
}

func ruleEnd(groups []string, peer, resource string) []string {
	if resource != "" {
		return []string{resourceName(resource)}
	}
	return end(groups, peer)
}

func end(groups []string, peer string) []string {
	var list []string
	for _, group := range groups {
		list = append(list, groupName(group))
	}
	if peer != "" {
		list = append(list, peerName(peer))
	}
	slices.SortFunc(list, strings.Compare)
	return slices.Compact(list)
}

// A direction is one direction of a policy rule with its ends by name.
type direction struct {
	key                   string
	sources, destinations []string
	rule                  Rule
}

// directions splits the enabled rules of a policy. A rule whose ends are equal needs no second direction.
func directions(p Policy) []direction {
	var list []direction
	if !p.Enabled {
		return nil
	}
	for _, r := range p.Rules {
		sources, destinations := ends(r)
		if !r.Drop { // who does not meet a check must not escape a drop
			sources = filtered(sources, p.Checks)
		}
		if !r.Enabled || r.Phase == PhaseExpired || len(sources) == 0 || len(destinations) == 0 {
			continue
		}
		key := p.ID + "\x00" + r.ID
		list = append(list, direction{key + "\x00>", sources, destinations, r})
		if r.Bidirectional && !slices.Equal(sources, destinations) {
			list = append(list, direction{key + "\x00<", destinations, sources, r})
		}
	}
	return list
}

// rulesOf compiles a policy. Bases that it names and that do not exist yet come into being without members.
func (e *Engine) rulesOf(p Policy) []*rule {
	var rules []*rule
	for _, d := range directions(p) {
		protocol, ports := protocolOf(d.rule)
		rules = append(rules, &rule{
			id: e.cfg.opaque("r_", d.key), drop: d.rule.Drop, monitor: d.rule.Monitor, pending: d.rule.Phase == PhasePending, term: d.rule.Term, protocol: protocol, ports: ports,
			sources: e.basesOf(d.sources), destinations: e.basesOf(d.destinations),
			sourceID:      e.cfg.opaque("s_", expressionKey(d.sources, nil, nil)),
			destinationID: e.cfg.opaque("s_", expressionKey(d.destinations, nil, nil)),
			views:         map[ruleForm]*ruleView{},
		})
	}
	return rules
}

func (e *Engine) basesOf(names []string) []*base {
	bases := make([]*base, len(names))
	for i, name := range names {
		bases[i] = e.base(name)
	}
	return bases
}

// base returns the base of that name and makes it when there is none. A single peer becomes a base when a rule first
// names it.
func (e *Engine) base(name string) *base {
	b := e.bases[name]
	if b == nil {
		b = newBase(name)
		if whole, checks, part := strings.Cut(name, filterMark); part {
			e.filter(b, e.base(whole), checks)
		} else if id, single := strings.CutPrefix(name, peerName("")); single {
			if p := e.peers[id]; p != nil {
				b.members.Add(p.Ordinal)
			}
		}
		e.bases[name] = b
	}
	return b
}

// link makes the bases know the rule, unlink makes them forget it.
func (r *rule) link() {
	for _, b := range r.sources {
		b.sources[r] = struct{}{}
	}
	for _, b := range r.destinations {
		b.destinations[r] = struct{}{}
	}
}

func (r *rule) unlink() {
	for _, b := range r.sources {
		delete(b.sources, r)
	}
	for _, b := range r.destinations {
		delete(b.destinations, r)
	}
}

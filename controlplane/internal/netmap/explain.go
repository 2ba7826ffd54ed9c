package netmap

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/wattlenet/wattle/internal/verdict"
)

// ErrUnknownEnd says that a question names a resource that the map does not have: it is disabled or gone.
var ErrUnknownEnd = errors.New("the network map has no such resource")

// A Question asks whether the first packet of a flow may pass from one end to another.
type Question struct {
	Source, Destination End
	// Protocol is the protocol number of IP, Port the destination port of TCP and UDP.
	Protocol uint8
	Port     uint16
}

// A Reason is why a packet may pass or not.
type Reason string

// The reasons. Only ReasonAllowed allows.
const (
	ReasonAllowed      Reason = "allowed"      // a rule accepts it and none drops it
	ReasonDropped      Reason = "dropped"      // a rule drops it
	ReasonNoRule       Reason = "no_rule"      // no rule accepts it
	ReasonSource       Reason = "source"       // the source is not approved
	ReasonDestination  Reason = "destination"  // the destination is not approved
	ReasonNoRouter     Reason = "no_router"    // nobody leads to the resource
	ReasonRouterItself Reason = "router"       // the peer is a router of the resource and needs no way through the overlay
	ReasonSame         Reason = "same_machine" // both ends are one peer
)

// A RuleRef names a rule of a policy.
type RuleRef struct{ Policy, Rule string }

// A Miss is why a rule did not match that nearly did.
type Miss string

// The misses, the nearest first: the ends match, then one of them.
const (
	MissPolicyDisabled Miss = "policy_disabled"
	MissRuleDisabled   Miss = "rule_disabled"
	MissMonitor        Miss = "monitor" // the rule only counts
	MissPending        Miss = "pending" // its time has not come
	MissExpired        Miss = "expired" // its time is over
	MissPort           Miss = "port"
	MissProtocol       Miss = "protocol"
	MissPosture        Miss = "posture"   // the peer at the source of the rule does not meet all posture checks of the policy
	MissDirection      Miss = "direction" // the rule opens the other direction only
	MissSource         Miss = "source"
	MissDestination    Miss = "destination"
)

// A NearMiss is an accept rule that lacks one thing only.
type NearMiss struct {
	RuleRef
	Missing Miss
	// Groups are the ids of the groups of the missing end; one of them would do.
	Groups []string
	// Checks are the ids of the posture checks that are not met, and Peer is who does not.
	Checks []string
	Peer   string
}

// An Explanation is the answer to a Question.
type Explanation struct {
	Reason Reason
	// Rule decided; empty for reasons that are not about rules.
	Rule RuleRef
	// Near holds rules that would have accepted the packet with one thing changed, the nearest first.
	Near []NearMiss
	// Routers lists who leads to a resource, the preferred first.
	Routers []RouterChoice
}

// A RouterChoice is a peer that leads to a resource.
type RouterChoice struct {
	Peer   End
	Metric int
	// Approved is false for a peer that is passed over because it does not take part.
	Approved bool
}

// Explain answers a question about the account as it is now, from the policies with all that is disabled in them. The
// errors are ErrUnknownPeer and ErrUnknownEnd.
func (e *Engine) Explain(policies []Policy, q Question) (Explanation, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	x := explaining{e: e, packet: verdict.Packet{Source: 0, Destination: 1, Protocol: q.Protocol, Port: q.Port}}
	for i, end := range []End{q.Source, q.Destination} {
		stands, err := e.standsOf(end)
		if err != nil {
			return Explanation{}, err
		}
		x.ends[i], x.stands[i] = end, stands
	}
	var answer Explanation
	if reason := x.beforeRules(q, &answer); reason != "" {
		answer.Reason = reason
		return answer, nil
	}
	x.judge(policies, &answer)
	if answer.Reason != ReasonAllowed && answer.Reason != ReasonDropped {
		x.nearMisses(policies, &answer)
	}
	return answer, nil
}

// Resources lists the resources of networks that the map has, in the order of their ids.
func (e *Engine) Resources() []End {
	e.mu.RLock()
	defer e.mu.RUnlock()
	list := make([]End, 0, len(e.resources))
	for _, id := range slices.Sorted(maps.Keys(e.resources)) {
		list = append(list, End{EndResource, id, cmp.Or(e.networks[e.resources[id]].resources[id].Name, id)})
	}
	return list
}

// An explaining is Explain under way.
type explaining struct {
	e    *Engine
	ends [2]End
	// stands holds, for source and destination, the names of the bases that the end is in.
	stands [2]map[string]bool
	// packet runs from the peer 0 to the peer 1, which stand for the two ends.
	packet verdict.Packet
}

// standsOf returns the names of the bases that an end is in.
func (e *Engine) standsOf(end End) (map[string]bool, error) {
	stands := map[string]bool{}
	if end.Kind == EndPeer {
		p := e.peers[end.ID]
		if p == nil {
			return nil, ErrUnknownPeer
		}
		stands[peerName(end.ID)] = true
		for b := range p.groups {
			stands[b.name] = true
		}
		return stands, nil
	}
	in, known := e.resources[end.ID]
	if !known {
		return nil, ErrUnknownEnd
	}
	stands[resourceName(end.ID)] = true
	for _, group := range e.networks[in].resources[end.ID].Groups {
		stands[groupName(group)] = true
	}
	return stands, nil
}

// beforeRules finds the reasons that no rule can change.
func (x *explaining) beforeRules(q Question, answer *Explanation) Reason {
	switch {
	case q.Source.Kind == q.Destination.Kind && q.Source.ID == q.Destination.ID:
		return ReasonSame
	case q.Source.Kind == EndPeer && !x.e.peers[q.Source.ID].Approved:
		return ReasonSource
	case q.Destination.Kind == EndPeer && !x.e.peers[q.Destination.ID].Approved:
		return ReasonDestination
	}
	for i, end := range []End{q.Source, q.Destination} {
		if end.Kind == EndPeer {
			continue
		}
		other := []End{q.Destination, q.Source}[i]
		choices := x.e.routersOf(end.ID)
		answer.Routers = choices
		if !slices.ContainsFunc(choices, func(c RouterChoice) bool { return c.Approved }) {
			return ReasonNoRouter
		}
		if slices.ContainsFunc(choices, func(c RouterChoice) bool { return c.Approved && c.Peer.ID == other.ID }) {
			return ReasonRouterItself
		}
	}
	return ""
}

// routersOf lists the peers that lead to a resource.
func (e *Engine) routersOf(resource string) (list []RouterChoice) {
	rt := e.routed[resourceName(resource)]
	if rt == nil {
		return nil
	}
	known := map[uint32]bool{}
	for _, v := range rt.via {
		for _, b := range v.peers {
			for ordinals := b.members.Iterator(); ordinals.HasNext(); {
				n := ordinals.Next()
				if !known[n] {
					known[n] = true
					p := e.ordinals[n]
					list = append(list, RouterChoice{End{EndPeer, p.ID, p.Name}, v.metric, p.Approved})
				}
			}
		}
	}
	return list
}

// A facing is one direction of a rule as the two ends see it.
type facing struct {
	RuleRef
	rule                Rule
	policy              bool // enabled
	back                bool
	source, destination bool // the end stands there
	groups              [2][]string
	unmet               []string // ids of posture checks of the policy, where the rule heeds them
}

// facings lists all directions of all rules, disabled ones too.
func (x *explaining) facings(policies []Policy) (list []facing) {
	in := func(side int, names []string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return x.stands[side][name] })
	}
	for _, p := range policies {
		for _, r := range p.Rules {
			sources, destinations := ends(r)
			f := facing{RuleRef: RuleRef{p.ID, r.ID}, rule: r, policy: p.Enabled, groups: [2][]string{r.Sources, r.Destinations}}
			f.source, f.destination, f.unmet = in(0, sources), in(1, destinations), x.unmet(p, r, 0)
			list = append(list, f)
			f.back, f.groups = true, [2][]string{r.Destinations, r.Sources}
			f.source, f.destination, f.unmet = in(0, destinations), in(1, sources), x.unmet(p, r, 1)
			list = append(list, f)
		}
	}
	return list
}

// unmet are the posture checks of a policy that keep one end from being a source
// of the rule. A drop counts for all, and a resource meets nothing.
func (x *explaining) unmet(p Policy, r Rule, side int) (ids []string) {
	if r.Drop {
		return nil
	}
	peer := x.e.peers[x.ends[side].ID] // nil for a resource
	for _, id := range slices.Compact(slices.Sorted(slices.Values(p.Checks))) {
		c := x.e.checks[id]
		if peer == nil || c == nil || !c.passing.Contains(peer.Ordinal) {
			ids = append(ids, id)
		}
	}
	return ids
}

// judges reports whether an enabled rule judges packets at the moment.
func (r Rule) judges() bool { return r.Enabled && !r.Monitor && r.Phase == PhaseActive }

func (f facing) open() bool { return !f.back || f.rule.Bidirectional }

// judge asks the matcher, with the two ends as its only peers.
func (x *explaining) judge(policies []Policy, answer *Explanation) {
	refs := map[string]RuleRef{}
	var rules []verdict.Rule
	for _, f := range x.facings(policies) {
		if !f.policy || !f.rule.judges() || !f.open() || !f.source || !f.destination || len(f.unmet) > 0 {
			continue
		}
		id := f.Policy + "\x00" + f.Rule
		refs[id] = f.RuleRef
		rules = append(rules, matcherOf(f.rule, id))
	}
	decided := verdict.New(rules).Evaluate(x.packet)
	answer.Rule = refs[decided.Rule]
	switch {
	case decided.Allowed:
		answer.Reason = ReasonAllowed
	case decided.Rule != "":
		answer.Reason = ReasonDropped
	default:
		answer.Reason = ReasonNoRule
	}
}

// matcherOf is the rule for the packets from the peer 0 to the peer 1.
func matcherOf(r Rule, id string) verdict.Rule {
	protocol, spans := protocolOf(r)
	parsed, _ := verdict.ParseProtocol(string(protocol))
	rule := verdict.Rule{ID: id, Source: verdict.Only(0), Destination: verdict.Only(1), Drop: r.Drop, Protocol: parsed}
	for _, span := range spans {
		rule.Ports = append(rule.Ports, verdict.PortRange{First: uint16(span.Start), Last: uint16(span.End)})
	}
	return rule
}

// nearMisses finds the accept rules that lack one thing only.
func (x *explaining) nearMisses(policies []Policy, answer *Explanation) {
	near := map[RuleRef]NearMiss{}
	for _, f := range x.facings(policies) {
		if f.rule.Drop {
			continue
		}
		missing := f.missing(x.packet)
		if len(missing) != 1 {
			continue
		}
		miss := NearMiss{RuleRef: f.RuleRef, Missing: missing[0]}
		switch missing[0] {
		case MissSource:
			miss.Groups = f.groups[0]
		case MissDestination:
			miss.Groups = f.groups[1]
		case MissPosture:
			miss.Checks, miss.Peer = f.unmet, x.ends[0].ID
			if f.back {
				miss.Peer = x.ends[1].ID
			}
		}
		if known, met := near[f.RuleRef]; !met || rank(miss.Missing) < rank(known.Missing) {
			near[f.RuleRef] = miss
		}
	}
	answer.Near = slices.SortedFunc(maps.Values(near), func(a, b NearMiss) int {
		return cmp.Or(cmp.Compare(rank(a.Missing), rank(b.Missing)), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Rule, b.Rule))
	})
}

// missing lists everything that keeps the rule from accepting the packet.
func (f facing) missing(packet verdict.Packet) (list []Miss) {
	add := func(lacks bool, miss Miss) {
		if lacks {
			list = append(list, miss)
		}
	}
	add(!f.policy, MissPolicyDisabled)
	add(!f.rule.Enabled, MissRuleDisabled)
	add(f.rule.Monitor, MissMonitor)
	add(f.rule.Phase == PhasePending, MissPending)
	add(f.rule.Phase == PhaseExpired, MissExpired)
	add(!f.open(), MissDirection)
	add(!f.source, MissSource)
	add(!f.destination, MissDestination)
	add(len(f.unmet) > 0, MissPosture)
	matcher := matcherOf(f.rule, "")
	if !verdict.New([]verdict.Rule{matcher}).Evaluate(packet).Allowed {
		matcher.Ports = nil
		named := verdict.New([]verdict.Rule{matcher}).Evaluate(packet).Allowed
		add(named, MissPort)
		add(!named, MissProtocol)
	}
	return list
}

func rank(m Miss) int {
	return slices.Index([]Miss{MissPolicyDisabled, MissRuleDisabled, MissMonitor, MissPending, MissExpired, MissPort, MissProtocol, MissPosture, MissDirection, MissSource, MissDestination}, m)
}

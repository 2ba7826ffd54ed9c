package mapstate

import (
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
)

// A Fault is an item that no machine can follow: a rule without its set, a range that is none, a name that no resolver may
// answer. Apply refuses a delta that brings one, since a snapshot may mend what happened; a snapshot is taken with it, since
// nothing would. The item counts in the digest.
type Fault struct {
	Kind Kind
	ID   string
	Err  error
}

// A Kind is a noun of the map.
type Kind string

// The kinds of items that may have a Fault.
const (
	KindRule       Kind = "rule"
	KindRoute      Kind = "route"
	KindZone       Kind = "zone"
	KindRecord     Kind = "record"
	KindNameserver Kind = "nameserver"
)

// Faults lists the items that no machine can follow, by kind and id. It looks at every rule, route and name, and at no peer.
func (m *Map) Faults() (list []Fault) {
	c := m.change()
	note := func(kind Kind, id string, err error) {
		if err != nil {
			list = append(list, Fault{kind, id, err})
		}
	}
	for id, rule := range m.Rules.All() {
		note(KindRule, id, c.checkRule(rule))
	}
	for id, route := range m.Routes.All() {
		note(KindRoute, id, c.checkRoute(route))
	}
	for id, zone := range m.Names.Zones.All() {
		note(KindZone, id, checkZone(zone))
	}
	for id, record := range m.Names.Records.All() {
		note(KindRecord, id, c.checkRecord(record))
	}
	for id, group := range m.Names.Nameservers.All() {
		note(KindNameserver, id, checkNameserver(group))
	}
	slices.SortFunc(list, func(a, b Fault) int { return strings.Compare(string(a.Kind)+a.ID, string(b.Kind)+b.ID) })
	return list
}

// InForce lists the rules that a machine enforces, in the order of their ids. A rule with a fault is not among them, unless
// leaving it out might open what it closes: whatever does not accept becomes a drop of everything between the machines that
// it names, as far as they are known.
func (m *Map) InForce() (list []api.CompiledRule) {
	c := m.change()
	for _, rule := range inOrder(m.Rules) {
		if c.checkRule(rule) == nil {
			list = append(list, rule)
			continue
		}
		if rule.Action == api.CompiledRuleActionAccept || Monitors(rule) {
			continue
		}
		rule.Action, rule.Protocol, rule.Ports, rule.Mode = api.CompiledRuleActionDrop, api.CompiledRuleProtocolAll, nil, nil
		if c.checkRule(rule) == nil {
			list = append(list, rule)
			continue
		}
		for _, rule.Direction = range []api.CompiledRuleDirection{api.CompiledRuleDirectionIn, api.CompiledRuleDirectionOut} {
			if c.checkRule(rule) == nil {
				list = append(list, rule)
			}
		}
	}
	return list
}

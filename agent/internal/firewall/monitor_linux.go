package firewall

import (
	"fmt"
	"maps"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"github.com/wattlenet/wattle/generated/api"
)

// tallies are what rules have matched, by their ids: of those that judge, and of
// those that monitor.
type tallies [2]map[string]Count

// Places in tallies.
const (
	judges = iota
	watches
)

func newTallies() tallies { return tallies{{}, {}} }

func (t tallies) add(h hostRule, met Count) {
	at := judges
	if h.action == countIt {
		at = watches
	}
	sum := t[at][met.Rule]
	t[at][met.Rule] = Count{Rule: met.Rule, Also: max(sum.Also, met.Also), Packets: sum.Packets + met.Packets, Bytes: sum.Bytes + met.Bytes}
}

// counts reads the counters of the rules, by the keys of the rules. The caller
// holds mu.
func (k *Kernel) counts() (map[string]Count, error) {
	chains := map[string]*nftables.Chain{}
	for key, rule := range k.handles {
		if _, counts := k.inForce.counted[key]; counts {
			chains[rule.Chain.Name] = rule.Chain
		}
	}
	counts := map[string]Count{}
	for _, chain := range chains {
		rules, err := k.conn.GetRules(k.table, chain)
		if err != nil {
			return nil, fmt.Errorf("read the counters of %s: %w", chain.Name, err)
		}
		for _, rule := range rules {
			key, _ := userdata.GetString(rule.UserData, userdata.TypeComment)
			whose, ours := k.inForce.counted[key]
			if !ours {
				continue
			}
			for _, e := range rule.Exprs {
				if met, ok := e.(*expr.Counter); ok {
					whose.Packets, whose.Bytes = met.Packets, met.Bytes
				}
			}
			counts[key] = whose
		}
	}
	return counts, nil
}

// matched adds up what rules have matched, in all their directions and families,
// what they matched in an earlier form included. The caller holds mu.
func (k *Kernel) matched() (tallies, error) {
	counts, err := k.counts()
	if err != nil {
		return newTallies(), err
	}
	sums := tallies{maps.Clone(k.past[judges]), maps.Clone(k.past[watches])}
	for key, met := range counts {
		sums.add(k.inForce.rules[key], met)
	}
	return sums, nil
}

// remember keeps what rules have matched that go or come in another form, as long
// as their ids stay. kept tells those that stay by their keys. The caller holds mu.
func (k *Kernel) remember(kept func(key string) bool, wanted []api.CompiledRule) error {
	counts, err := k.counts()
	if err != nil {
		return err
	}
	for key, met := range counts {
		if !kept(key) {
			k.past.add(k.inForce.rules[key], met)
		}
	}
	for at, monitor := range [...]bool{judges: false, watches: true} {
		ids := idsOf(wanted, monitor)
		maps.DeleteFunc(k.past[at], func(id string, _ Count) bool { return !ids[id] })
	}
	return nil
}

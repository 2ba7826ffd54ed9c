package firewall

import (
	"fmt"
	"maps"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// counts reads the counters of the rules that monitor, by the keys of the rules.
// The caller holds mu.
func (k *Kernel) counts() (map[string]Count, error) {
	counts := map[string]Count{}
	for _, name := range judging {
		chain := k.chains[name+monitors]
		if chain == nil || !k.monitoring {
			continue
		}
		rules, err := k.conn.GetRules(k.table, chain)
		if err != nil {
			return nil, fmt.Errorf("read the counters of %s: %w", chain.Name, err)
		}
		for _, rule := range rules {
			key, _ := userdata.GetString(rule.UserData, userdata.TypeComment)
			for _, e := range rule.Exprs {
				if met, ok := e.(*expr.Counter); ok {
					counts[key] = Count{Rule: ruleOf(key), Packets: met.Packets, Bytes: met.Bytes}
				}
			}
		}
	}
	return counts, nil
}

// ruleOf returns the id of the rule that a key is about.
func ruleOf(key string) string {
	id, _, _ := strings.Cut(key, " ")
	return id
}

// monitored adds up what rules that monitor have matched, in all their
// directions and families, what they matched in an earlier form included. The
// caller holds mu.
func (k *Kernel) monitored() ([]Count, error) {
	counts, err := k.counts()
	if err != nil {
		return nil, err
	}
	sums := maps.Clone(k.past)
	for _, met := range counts {
		sums[met.Rule] = plus(sums[met.Rule], met)
	}
	return inOrder(sums), nil
}

// remember keeps what rules have matched that go or come in another form, as long
// as their ids stay. gone tells them by their keys. The caller holds mu.
func (k *Kernel) remember(gone func(key string) bool, wanted map[string]bool) error {
	counts, err := k.counts()
	if err != nil {
		return err
	}
	for key, met := range counts {
		if gone(key) {
			k.past[met.Rule] = plus(k.past[met.Rule], met)
		}
	}
	for id := range wanted {
		k.past[id] = plus(k.past[id], Count{Rule: id})
	}
	for id := range k.past {
		if !wanted[id] {
			delete(k.past, id)
		}
	}
	k.monitoring = len(wanted) > 0
	return nil
}

func plus(a, b Count) Count {
	return Count{Rule: b.Rule, Packets: a.Packets + b.Packets, Bytes: a.Bytes + b.Bytes}
}

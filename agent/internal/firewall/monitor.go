package firewall

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// A Count is what a rule has matched: packets in the direction in which a flow was
// opened. One that monitors counts them let through or not.
type Count struct {
	Rule string // id

	// Also is how many other rules, which differ in their destination outside of
	// the overlay only, are counted with it: the kernel holds them as one.
	Also int

	Packets uint64
	Bytes   uint64 // of whole IP packets
}

// idsOf lists the ids of the rules that monitor, or of those that judge.
func idsOf(rules []api.CompiledRule, monitor bool) map[string]bool {
	ids := map[string]bool{}
	for _, rule := range rules {
		if mapstate.Monitors(rule) == monitor {
			ids[rule.Id] = true
		}
	}
	return ids
}

// inOrder lists counts by rule.
func inOrder(counts map[string]Count) []Count {
	return slices.SortedFunc(maps.Values(counts), func(a, b Count) int { return cmp.Compare(a.Rule, b.Rule) })
}

// counters are what rules of a Filter have matched. A rule that stays keeps its
// counter when others change.
type counters struct {
	mu sync.RWMutex // guards of
	of map[string]*counter
}

type counter struct{ packets, bytes atomic.Uint64 }

// keep makes counters for these rules and forgets all others.
func (c *counters) keep(ids map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]*counter{}
	}
	for id := range ids {
		if c.of[id] == nil {
			c.of[id] = &counter{}
		}
	}
	maps.DeleteFunc(c.of, func(id string, _ *counter) bool { return !ids[id] })
}

// find returns the counter of a rule; nil for none.
func (c *counters) find(rule string) *counter {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.of[rule]
}

// add counts one packet. A nil counter counts nothing.
func (c *counter) add(bytes int) {
	if c != nil {
		c.packets.Add(1)
		c.bytes.Add(uint64(bytes))
	}
}

func (c *counters) list() []Count {
	c.mu.RLock()
	defer c.mu.RUnlock()
	counts := make(map[string]Count, len(c.of))
	for id, met := range c.of {
		counts[id] = Count{Rule: id, Packets: met.packets.Load(), Bytes: met.bytes.Load()}
	}
	return inOrder(counts)
}

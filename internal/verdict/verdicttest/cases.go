// Package verdicttest reads the recorded verdicts that every packet filter of Wattle must give.
package verdicttest

import (
	_ "embed" // the cases are one file beside the matcher's tests
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/wattlenet/wattle/internal/verdict"
)

//go:embed cases.json
var recorded []byte

// A Case is a set of rules and the verdicts that they must give.
type Case struct {
	// Name says in words what the case shows.
	Name string `json:"name"`
	// Sets holds the ordinals of each set that the rules name.
	Sets  map[string][]uint32 `json:"sets"`
	Rules []Rule              `json:"rules"`
	// At is when the packets are judged; it matters for rules with a term.
	At time.Time `json:"at"`
	// Packets are judged one by one; none is a reply. The reply to one that is allowed passes as well.
	Packets []Packet `json:"packets"`
}

// A Rule is a compiled rule in words, seen from above: it holds both of its ends. A filter on one machine applies it
// to packets that arrive when the machine is in Destination, to packets that leave when it is in Source.
type Rule struct {
	ID string `json:"id"`
	// Source and Destination are keys of Sets.
	Source      string `json:"source"`
	Destination string `json:"destination"`
	// Action is accept or drop.
	Action string `json:"action"`
	// Protocol is all, tcp, udp or icmp.
	Protocol string `json:"protocol"`
	// Ports are pairs of first and last port; absent for any.
	Ports [][2]uint16 `json:"ports,omitempty"`
	// Mode is enforce, which absent means too, or monitor.
	Mode string `json:"mode,omitempty"`
	// NotBefore and NotAfter are the term; zero for no limit.
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// Term is when the rule counts.
func (r Rule) Term() verdict.Term { return verdict.Term{NotBefore: r.NotBefore, NotAfter: r.NotAfter} }

// A Packet is the first packet of a flow and its verdict.
type Packet struct {
	Source      uint32 `json:"src"`
	Destination uint32 `json:"dst"`
	// Protocol is the protocol number of IP.
	Protocol uint8 `json:"protocol"`
	// Port is the destination port; 0 where the protocol has none.
	Port    uint16 `json:"port,omitempty"`
	Allowed bool   `json:"allowed"`
	// Rule is the id of the deciding rule; empty when none matched.
	Rule string `json:"rule,omitempty"`
	// Watched are the ids of the rules that monitor and match, in their order.
	Watched []string `json:"watched,omitempty"`
}

// Cases returns the recorded cases.
func Cases(t testing.TB) []Case {
	t.Helper()
	var cases []Case
	if err := json.Unmarshal(recorded, &cases); err != nil {
		t.Fatalf("the recorded verdicts cannot be read: %v", err)
	}
	if len(cases) == 0 {
		t.Fatal("there are no recorded verdicts")
	}
	return cases
}

// Members is a set of ordinals as a case lists it.
type Members []uint32

// Contains reports whether ordinal is a member.
func (m Members) Contains(ordinal uint32) bool { return slices.Contains(m, ordinal) }

// Compiled returns the rules of the case that count at its time, for the matcher.
func (c Case) Compiled(t testing.TB) []verdict.Rule {
	t.Helper()
	rules := make([]verdict.Rule, 0, len(c.Rules))
	for _, rule := range c.Rules {
		protocol, ok := verdict.ParseProtocol(rule.Protocol)
		if !ok {
			t.Fatalf("%s: rule %s has the unknown protocol %q", c.Name, rule.ID, rule.Protocol)
		}
		if !rule.Term().Holds(c.At) {
			continue
		}
		compiled := verdict.Rule{ID: rule.ID, Drop: rule.Action == "drop", Monitor: rule.Mode == "monitor", Protocol: protocol}
		compiled.Source, compiled.Destination = c.set(t, rule.Source), c.set(t, rule.Destination)
		for _, ports := range rule.Ports {
			compiled.Ports = append(compiled.Ports, verdict.PortRange{First: ports[0], Last: ports[1]})
		}
		rules = append(rules, compiled)
	}
	return rules
}

func (c Case) set(t testing.TB, name string) verdict.Set {
	t.Helper()
	members, ok := c.Sets[name]
	if !ok {
		t.Fatalf("%s: a rule names the unknown set %q", c.Name, name)
	}
	return Members(members)
}

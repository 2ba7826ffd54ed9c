package verdict_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/internal/verdict"
	"github.com/wattlenet/wattle/internal/verdict/verdicttest"
)

func TestRecordedVerdicts(t *testing.T) {
	for _, c := range verdicttest.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			rules := verdict.New(c.Compiled(t))
			for _, p := range c.Packets {
				packet := verdict.Packet{Source: p.Source, Destination: p.Destination, Protocol: p.Protocol, Port: p.Port}
				want := verdict.Verdict{Allowed: p.Allowed, Rule: p.Rule}
				if got := rules.Evaluate(packet); got != want {
					t.Errorf("packet %+v: got %+v, want %+v", packet, got, want)
				}
				var watched []string
				rules.Watched(packet, func(rule string) { watched = append(watched, rule) })
				if !slices.Equal(watched, p.Watched) {
					t.Errorf("packet %+v: watched by %v, want %v", packet, watched, p.Watched)
				}
			}
		})
	}
}

// TestOrderDoesNotMatter shuffles random rules and compares with a matcher that knows nothing of order: any drop
// denies, else any accept allows.
func TestOrderDoesNotMatter(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		rules := randomRules(random)
		first := verdict.New(rules)
		random.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		second := verdict.New(rules)
		for range 50 {
			packet := randomPacket(random)
			a, b := first.Evaluate(packet), second.Evaluate(packet)
			if a != b {
				t.Fatalf("packet %+v: %+v in one order and %+v in another", packet, a, b)
			}
			if allowed := naive(rules, packet); a.Allowed != allowed {
				t.Fatalf("packet %+v: allowed is %t, want %t", packet, a.Allowed, allowed)
			}
		}
	}
}

func naive(rules []verdict.Rule, p verdict.Packet) bool {
	accepted, dropped := false, false
	for _, rule := range rules {
		single := rule
		single.Drop = false
		if verdict.New([]verdict.Rule{single}).Evaluate(p).Allowed {
			accepted = accepted || !rule.Drop
			dropped = dropped || rule.Drop
		}
	}
	return accepted && !dropped
}

func randomRules(random *rand.Rand) []verdict.Rule {
	rules := make([]verdict.Rule, random.IntN(8))
	for i := range rules {
		rules[i] = verdict.Rule{
			ID: fmt.Sprintf("r%02d", i), Source: randomSet(random), Destination: randomSet(random),
			Drop: random.IntN(3) == 0, Protocol: verdict.Protocol(random.IntN(4)),
		}
		if rules[i].Protocol == verdict.TCP || rules[i].Protocol == verdict.UDP {
			for range random.IntN(3) {
				first := uint16(random.IntN(6))
				rules[i].Ports = append(rules[i].Ports, verdict.PortRange{First: first, Last: first + uint16(random.IntN(3))})
			}
		}
	}
	return rules
}

func randomSet(random *rand.Rand) verdict.Set {
	set := roaring.New()
	for n := range uint32(5) {
		if random.IntN(2) == 0 {
			set.Add(n)
		}
	}
	return set
}

func randomPacket(random *rand.Rand) verdict.Packet {
	numbers := []uint8{verdict.NumberICMP, verdict.NumberTCP, verdict.NumberUDP, verdict.NumberICMPv6, 47}
	return verdict.Packet{
		Source: uint32(random.IntN(5)), Destination: uint32(random.IntN(5)),
		Protocol: numbers[random.IntN(len(numbers))], Port: uint16(random.IntN(8)),
	}
}

func TestEvaluateDoesNotAllocate(t *testing.T) {
	set := roaring.BitmapOf(1, 2, 70000)
	rules := verdict.New([]verdict.Rule{
		{ID: "r1", Source: set, Destination: verdict.Only(3), Drop: true, Protocol: verdict.UDP},
		{ID: "r2", Source: set, Destination: verdict.Only(3), Protocol: verdict.TCP, Ports: []verdict.PortRange{{First: 1, Last: 2}, {First: 22, Last: 22}}},
	})
	packet := verdict.Packet{Source: 70000, Destination: 3, Protocol: verdict.NumberTCP, Port: 22}
	allocations := testing.AllocsPerRun(100, func() {
		if !rules.Evaluate(packet).Allowed {
			t.Fatal("denied")
		}
	})
	if allocations != 0 {
		t.Errorf("one verdict allocates %.0f times", allocations)
	}
}

func TestTerm(t *testing.T) {
	at := time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)
	before, after, later := at.Add(-time.Hour), at.Add(time.Hour), at.Add(2*time.Hour)
	var none time.Time
	for name, c := range map[string]struct {
		from, until time.Time
		holds       bool
		next        time.Time
	}{
		"no limit":           {none, none, true, none},
		"begins now":         {at, none, true, none},
		"ends now":           {none, at, false, none},
		"inside":             {before, after, true, after},
		"before":             {after, later, false, after},
		"before, no end":     {after, none, false, after},
		"over":               {none, before, false, none},
		"over, with a begin": {before.Add(-time.Hour), before, false, none},
		"never":              {later, after, false, none},
	} {
		term := verdict.Term{NotBefore: c.from, NotAfter: c.until}
		if holds, next := term.Holds(at), term.Next(at); holds != c.holds || !next.Equal(c.next) {
			t.Errorf("%s: holds %t, next %s; want %t, %s", name, holds, next, c.holds, c.next)
		}
		if next := term.Next(at); !next.IsZero() && term.Holds(next) == term.Holds(at) {
			t.Errorf("%s: nothing changes at %s", name, next)
		}
	}
}

func TestZeroRulesDeny(t *testing.T) {
	var rules verdict.Rules
	if got := rules.Evaluate(verdict.Packet{Protocol: verdict.NumberTCP}); got != (verdict.Verdict{}) {
		t.Errorf("got %+v, want a denial by no rule", got)
	}
	rules = verdict.New([]verdict.Rule{{ID: "r1", Source: verdict.Only(0)}})
	if rules.Evaluate(verdict.Packet{}).Allowed {
		t.Error("a rule without a destination set allows")
	}
}

func BenchmarkEvaluate(b *testing.B) {
	set := roaring.New()
	set.AddRange(0, 10000)
	rules := make([]verdict.Rule, 20)
	for i := range rules {
		rules[i] = verdict.Rule{ID: fmt.Sprint(i), Source: set, Destination: verdict.Only(3), Protocol: verdict.TCP, Ports: []verdict.PortRange{{First: uint16(i), Last: uint16(i)}}}
	}
	compiled := verdict.New(rules)
	b.ReportAllocs()
	for b.Loop() {
		compiled.Evaluate(verdict.Packet{Source: 7, Destination: 3, Protocol: verdict.NumberTCP, Port: 19})
	}
}

package netmap

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/verdict"
)

// TestCompareEqualsPairByPair makes random writes and counts the pairs that gained, lost or changed access by asking the
// matcher for each pair and sample packet, before and after.
func TestCompareEqualsPairByPair(t *testing.T) {
	sequences := 150
	if testing.Short() {
		sequences = 30
	}
	var gained, lost, changed uint64
	for seed := range sequences {
		tr := newTrial(t, uint64(seed))
		var numbers Numbers
		before, allowedBefore := tr.engine.Picture(&numbers), tr.allowances()
		for range 40 {
			tr.serial++
			if _, err := tr.engine.Apply(tr.serial, tr.world.batch()...); err != nil {
				t.Fatal(err)
			}
			after, allowedAfter := tr.engine.Picture(&numbers), tr.allowances()
			got := Compare(before, after, 1000)
			want := [3][]string{}
			for pair, now := range allowedAfter {
				was := allowedBefore[pair]
				switch was {
				case now:
				case "":
					want[0] = append(want[0], pair)
				default:
					want[2] = append(want[2], pair)
				}
			}
			for pair := range allowedBefore {
				if allowedAfter[pair] == "" {
					want[1] = append(want[1], pair)
				}
			}
			for i, pairs := range []Pairs{got.Gained, got.Lost, got.Changed} {
				slices.Sort(want[i])
				if list := pairTexts(pairs); !slices.Equal(list, want[i]) || pairs.Count != uint64(len(list)) {
					t.Fatalf("seed %d, serial %d, kind %d: %d pairs %v, want %v", seed, tr.serial, i, pairs.Count, list, want[i])
				}
			}
			gained, lost, changed = gained+got.Gained.Count, lost+got.Lost.Count, changed+got.Changed.Count
			before, allowedBefore = after, allowedAfter
		}
	}
	t.Logf("%d pairs gained, %d lost, %d changed", gained, lost, changed)
	if gained == 0 || lost == 0 || changed == 0 {
		t.Errorf("%d pairs gained, %d lost, %d changed: the sequences try too little", gained, lost, changed)
	}
}

func pairTexts(pairs Pairs) []string {
	var list []string
	for _, p := range pairs.Sample {
		list = append(list, p.Source.ID+">"+p.Destination.ID)
	}
	slices.Sort(list)
	return list
}

// allowances lists, by pair, the sample packets that may pass.
func (tr *trial) allowances() map[string]string {
	account := tr.world.account()
	account.Offers = nil
	maps, err := Compile(testConfig(), tr.serial, account)
	if err != nil {
		tr.fatalf("the oracle fails: %v", err)
	}
	whole := newWhole(testConfig(), account)
	all := map[string]string{}
	note := func(from, to string, rules verdict.Rules, a, b uint32) {
		var text strings.Builder
		for i, packet := range samplePackets(a, b) {
			if rules.Evaluate(packet).Allowed {
				fmt.Fprint(&text, i, " ")
			}
		}
		if text.Len() > 0 {
			all[from+">"+to] = text.String()
		}
	}
	for _, p := range account.Peers {
		for _, o := range account.Peers {
			if p.ID != o.ID {
				note(p.ID, o.ID, maps[p.ID].Verdict(looked), p.Ordinal, o.Ordinal)
			}
		}
		for _, rt := range whole.routes {
			route := maps[p.ID].Routes.At(rt.id)
			if route.Role != api.CompiledRouteRoleUse || len(maps[p.ID].Candidates(route)) == 0 {
				continue
			}
			rules, id := tr.routedRules(maps[p.ID], rt), rt.key[2:]
			note(p.ID, id, rules, p.Ordinal, outside)
			note(id, p.ID, rules, outside, p.Ordinal)
		}
	}
	return all
}

func TestAccessInWords(t *testing.T) {
	tcp := func(drop bool, first, last int) grant {
		return grant{drop: drop, protocol: api.CompiledRuleProtocolTcp, ports: []api.PortRange{{Start: first, End: last}}}
	}
	all := grant{protocol: api.CompiledRuleProtocolAll}
	cases := map[string]struct {
		grants []grant
		want   string
	}{
		"nothing":              {nil, ""},
		"everything":           {[]grant{all}, "all"},
		"ports that touch":     {[]grant{tcp(false, 80, 89), tcp(false, 90, 90), tcp(false, 22, 22)}, "tcp/22 tcp/80-90"},
		"a hole":               {[]grant{tcp(true, 5, 5), tcp(false, 4, 6)}, "tcp/4 tcp/6"},
		"everything but ports": {[]grant{tcp(true, 22, 22), all}, "tcp/0-21 tcp/23-65535 udp icmp other"},
		"a whole protocol":     {[]grant{{protocol: api.CompiledRuleProtocolUdp}, {protocol: api.CompiledRuleProtocolIcmp}}, "udp icmp"},
		"all of it dropped":    {[]grant{tcp(false, 22, 22), {drop: true, protocol: api.CompiledRuleProtocolTcp}}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a := accessOf(c.grants)
			if got := strings.Join(a.texts(), " "); got != c.want || a.none() != (c.want == "") {
				t.Errorf("got %q, none %t; want %q", got, a.none(), c.want)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	groups := func(ids ...string) []string { return ids }
	tcp22 := func(r Rule) Rule {
		r.Protocol, r.Ports = "tcp", []PortRange{{22, 22}}
		return r
	}
	policies := func(rules ...Rule) []Policy { return []Policy{simplePolicy("p", rules...).Policy} }
	disabled := func(rules ...Rule) []Policy {
		list := policies(rules...)
		list[0].Enabled = false
		return list
	}
	guarded := func(check string, rules ...Rule) []Policy {
		list := policies(rules...)
		list[0].Checks = []string{check}
		return list
	}
	peer := func(id string) End { return End{Kind: EndPeer, ID: id} }
	n := End{Kind: EndResource, ID: "n"}
	cases := map[string]struct {
		policies []Policy
		from, to End
		want     string
	}{
		"allowed":                    {policies(Rule{Sources: groups("ga"), Destinations: groups("gb")}), peer("a"), peer("b"), "allowed by p/r0"},
		"the other direction":        {policies(Rule{Sources: groups("ga"), Destinations: groups("gb")}), peer("b"), peer("a"), "no_rule; p/r0 lacks direction"},
		"both directions":            {policies(Rule{Sources: groups("ga"), Destinations: groups("gb"), Bidirectional: true}), peer("b"), peer("a"), "allowed by p/r0"},
		"dropped":                    {policies(Rule{Sources: groups("all"), Destinations: groups("all")}, tcp22(Rule{Drop: true, Sources: groups("ga"), Destinations: groups("gb")})), peer("a"), peer("b"), "dropped by p/r1"},
		"disabled policy":            {disabled(Rule{Sources: groups("ga"), Destinations: groups("gb")}), peer("a"), peer("b"), "no_rule; p/r0 lacks policy_disabled"},
		"another port":               {policies(Rule{Sources: groups("ga"), Destinations: groups("gb"), Protocol: "tcp", Ports: []PortRange{{23, 30}}}), peer("a"), peer("b"), "no_rule; p/r0 lacks port"},
		"another protocol":           {policies(Rule{Sources: groups("ga"), Destinations: groups("gb"), Protocol: "udp"}), peer("a"), peer("b"), "no_rule; p/r0 lacks protocol"},
		"another group":              {policies(tcp22(Rule{Sources: groups("gc", "gd"), Destinations: groups("gb")})), peer("a"), peer("b"), "no_rule; p/r0 lacks source gc,gd"},
		"two things missing":         {policies(Rule{Sources: groups("gc"), Destinations: groups("gd")}), peer("a"), peer("b"), "no_rule"},
		"the nearest first":          {policies(Rule{Sources: groups("ga"), Destinations: groups("gd")}, Rule{Sources: groups("ga"), Destinations: groups("gb"), Protocol: "icmp"}), peer("a"), peer("b"), "no_rule; p/r1 lacks protocol; p/r0 lacks destination gd"},
		"not approved":               {policies(Rule{Sources: groups("all"), Destinations: groups("all")}), peer("a"), peer("u"), "destination"},
		"from one not approved":      {policies(Rule{Sources: groups("all"), Destinations: groups("all")}), peer("u"), peer("a"), "source"},
		"itself":                     {nil, peer("a"), peer("a"), "same_machine"},
		"a resource":                 {policies(Rule{Sources: groups("ga"), Destinations: groups("gres")}), peer("a"), n, "allowed by p/r0 through c 5, u 9 unapproved"},
		"a resource by id":           {policies(tcp22(Rule{Sources: groups("ga"), DestinationResource: "n"})), peer("a"), n, "allowed by p/r0 through c 5, u 9 unapproved"},
		"a resource opens":           {policies(Rule{SourceResource: "n", Destinations: groups("ga")}), n, peer("a"), "allowed by p/r0 through c 5, u 9 unapproved"},
		"a resource of its router":   {policies(Rule{Sources: groups("all"), DestinationResource: "n"}), peer("c"), n, "router through c 5, u 9 unapproved"},
		"posture is met":             {guarded("met", Rule{Sources: groups("ga"), Destinations: groups("gb")}), peer("a"), peer("b"), "allowed by p/r0"},
		"posture is not met":         {guarded("unmet", Rule{Sources: groups("ga"), Destinations: groups("gb")}), peer("a"), peer("b"), "no_rule; p/r0 lacks posture unmet of a"},
		"posture of no check":        {guarded("removed", Rule{Sources: groups("ga"), Destinations: groups("gb")}), peer("a"), peer("b"), "no_rule; p/r0 lacks posture removed of a"},
		"posture and the way back":   {guarded("unmet", Rule{Sources: groups("ga"), Destinations: groups("gb"), Bidirectional: true}), peer("b"), peer("a"), "no_rule; p/r0 lacks posture unmet of a"},
		"posture of a destination":   {guarded("met", Rule{Sources: groups("ga"), Destinations: groups("gb"), Bidirectional: true}), peer("b"), peer("a"), "allowed by p/r0"},
		"a drop asks no posture":     {guarded("unmet", Rule{Drop: true, Sources: groups("ga"), Destinations: groups("gb")}), peer("a"), peer("b"), "dropped by p/r0"},
		"posture and a port":         {guarded("unmet", Rule{Sources: groups("ga"), Destinations: groups("gb"), Protocol: "icmp"}), peer("a"), peer("b"), "no_rule"},
		"posture of a resource":      {guarded("met", Rule{SourceResource: "n", Destinations: groups("ga")}), n, peer("a"), "no_rule through c 5, u 9 unapproved; p/r0 lacks posture met of n"},
		"a resource nobody leads to": {policies(Rule{Sources: groups("all"), DestinationResource: "m"}), peer("a"), End{Kind: EndResource, ID: "m"}, "no_router"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := small(t, GroupPut{ID: "gres"}, PeerPut{Peer{ID: "u", Ordinal: 9, Name: "u"}}, MembersAdd{"all", []string{"u"}},
				RouterPut{Router{ID: "v1", Network: "w", Peer: "c", Metric: 5}}, RouterPut{Router{ID: "v2", Network: "w", Peer: "u", Metric: 9}},
				ResourcePut{Resource{ID: "n", Network: "w", Prefix: netip.MustParsePrefix("10.0.0.0/8"), Groups: groups("gres")}},
				ResourcePut{Resource{ID: "m", Network: "w2", Prefix: netip.MustParsePrefix("10.0.0.0/8")}},
				CheckPut{Check{ID: "met"}}, CheckPut{Check{ID: "unmet"}}, PostureBits{Check: "met", Pass: []string{"a"}}, PostureBits{Check: "unmet", Pass: []string{"b"}})
			for _, p := range c.policies {
				if _, err := e.Apply(e.Serial()+1, PolicyPut{p}); err != nil {
					t.Fatal(err)
				}
			}
			got, err := e.Explain(c.policies, Question{c.from, c.to, verdict.NumberTCP, 22})
			if err != nil {
				t.Fatal(err)
			}
			if text := explained(got); text != c.want {
				t.Errorf("got %q, want %q", text, c.want)
			}
		})
	}
	for _, end := range []End{peer("nobody"), {Kind: EndResource, ID: "nothing"}} {
		if _, err := small(t).Explain(nil, Question{peer("a"), end, 6, 22}); err == nil {
			t.Errorf("%v is explained", end)
		}
	}
}

func explained(x Explanation) string {
	text := string(x.Reason)
	if x.Rule.Policy != "" {
		text += " by " + x.Rule.Policy + "/" + x.Rule.Rule
	}
	for i, r := range x.Routers {
		text += []string{" through ", ", "}[min(i, 1)] + fmt.Sprint(r.Peer.ID, " ", r.Metric)
		if !r.Approved {
			text += " unapproved"
		}
	}
	for _, m := range x.Near {
		text += fmt.Sprintf("; %s/%s lacks %s", m.Policy, m.Rule, m.Missing)
		if len(m.Groups) > 0 {
			text += " " + strings.Join(m.Groups, ",")
		}
		if len(m.Checks) > 0 {
			text += " " + strings.Join(m.Checks, ",") + " of " + m.Peer
		}
	}
	return text
}

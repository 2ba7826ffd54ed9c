package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/table"
	"github.com/wattlenet/wattle/internal/verdict/verdicttest"
)

func TestFilterGivesTheRecordedVerdicts(t *testing.T) {
	for _, c := range verdicttest.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			for _, p := range c.Packets {
				if p.Source == p.Destination {
					continue // does not pass the tunnel
				}
				for _, inbound := range []bool{true, false} {
					self := p.Source
					if inbound {
						self = p.Destination
					}
					f := NewFilter()
					if err := f.Set(t.Context(), configFor(c, self)); err != nil {
						t.Fatal(err)
					}
					src, dst := ends(p)
					before := f.Status()
					raw := build(src, dst, p.Protocol, 40000, p.Port)
					if got := f.judge(raw, inbound); got != p.Allowed {
						t.Errorf("packet %+v inbound %v: %v, want %v", p, inbound, got, p.Allowed)
					}
					if p.Allowed && !f.judge(reply(p, 40000), !inbound) {
						t.Errorf("the reply to packet %+v inbound %v does not pass", p, inbound)
					}
					if got := countedBy(t, before.Monitored, f.Status().Monitored, len(raw)); !slices.Equal(got, p.Watched) {
						t.Errorf("packet %+v inbound %v: counted by %v, want %v", p, inbound, got, p.Watched)
					}
					if got := strings.Join(countedBy(t, before.Matched, f.Status().Matched, len(raw)), " "); got != p.Rule {
						t.Errorf("packet %+v inbound %v: counted for %q, want %q", p, inbound, got, p.Rule)
					}
				}
			}
		})
	}
}

// two machines: ordinal 1 is the filter's, ordinal 2 is the other.
var (
	here  = addressOf(1)
	there = addressOf(2)
)

// rig is a filter with a clock in the test's hand and one rule.
type rig struct {
	*Filter
	t     *testing.T
	clock int64
}

func newRig(t *testing.T, rules ...api.CompiledRule) *rig {
	r := &rig{Filter: NewFilter(), t: t, clock: 1}
	r.now = func() int64 { return r.clock }
	r.rule(rules...)
	return r
}

func (r *rig) rule(rules ...api.CompiledRule) {
	r.t.Helper()
	err := r.Set(r.t.Context(), Config{
		Self:  1,
		Peers: table.Of(map[uint32]Addresses{1: here, 2: there}),
		Sets:  table.Of(map[string]*roaring.Bitmap{"me": roaring.BitmapOf(1), "them": roaring.BitmapOf(2)}),
		Rules: rules,
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) want(what string, got, want bool) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s: passed %v, want %v", what, got, want)
	}
}

func in(protocol string, ports ...int) api.CompiledRule {
	rule := api.CompiledRule{Id: "in", Direction: "in", Source: "them", Destination: "me", Action: "accept", Protocol: api.CompiledRuleProtocol(protocol)}
	if len(ports) > 0 {
		rule.Ports = &[]api.PortRange{{Start: ports[0], End: ports[len(ports)-1]}}
	}
	return rule
}

func out(protocol string) api.CompiledRule {
	return api.CompiledRule{Id: "out", Direction: "out", Source: "me", Destination: "them", Action: "accept", Protocol: api.CompiledRuleProtocol(protocol)}
}

// segment is a TCP segment with flags.
func segment(src, dst netip.Addr, sport, dport uint16, flags byte) []byte {
	raw := build(src, dst, protoTCP, sport, dport)
	raw[len(raw)-24+13] = flags
	return raw
}

func TestNothingPassesBeforeTheFirstRules(t *testing.T) {
	f := NewFilter()
	raw := build(there.IPv4, here.IPv4, protoUDP, 1, 2)
	if f.Inbound(raw) || f.Outbound(raw) {
		t.Error("a filter without rules let a packet pass")
	}
	if f.Status().Dropped != 2 {
		t.Errorf("%d drops counted, want 2", f.Status().Dropped)
	}
}

func TestOnlyTheReplyDirectionRidesOnTheFlow(t *testing.T) {
	r := newRig(t, in("udp", 53))
	answer := build(here.IPv4, there.IPv4, protoUDP, 53, 4000)
	r.want("answer without a question", r.Outbound(answer), false)
	r.want("question", r.Inbound(build(there.IPv4, here.IPv4, protoUDP, 4000, 53)), true)
	r.want("answer", r.Outbound(answer), true)
	r.want("new flow the other way", r.Outbound(build(here.IPv4, there.IPv4, protoUDP, 53, 4001)), false)
	r.want("other port", r.Inbound(build(there.IPv4, here.IPv4, protoUDP, 4000, 54)), false)
}

func TestRuleThatGoesTakesFlowsAlong(t *testing.T) {
	r := newRig(t, in("all"), out("icmp"))
	question := segment(there.IPv6, here.IPv6, 4000, 80, flagSYN)
	data := segment(there.IPv6, here.IPv6, 4000, 80, flagACK)
	answer := segment(here.IPv6, there.IPv6, 80, 4000, flagSYN|flagACK)
	r.want("open", r.Inbound(question), true)
	r.want("answer", r.Outbound(answer), true)
	r.want("data", r.Inbound(data), true)
	r.rule(out("all"), in("all"))
	r.want("data after an unrelated change", r.Inbound(data), true)
	r.clock += int64(2 * adoption)
	r.rule(out("all"))
	r.want("data after the rule went", r.Inbound(data), false)
	// The machine repeats what was not acknowledged: that must not open the flow
	// from the other side, though the machine itself may open flows.
	r.want("repeated answer", r.Outbound(answer), false)
	r.want("data after the repetition", r.Inbound(data), false)
	r.want("new connection outward", r.Outbound(segment(here.IPv6, there.IPv6, 5000, 80, flagSYN)), true)
}

func TestConnectionsOutliveARestart(t *testing.T) {
	r := newRig(t, in("tcp", 80))
	data := segment(there.IPv4, here.IPv4, 4000, 80, flagACK)
	r.want("data right after the start", r.Inbound(data), true)
	r.want("its answer", r.Outbound(segment(here.IPv4, there.IPv4, 80, 4000, flagACK)), true)
	r.clock += int64(2 * adoption)
	r.want("data of another connection later", r.Inbound(segment(there.IPv4, here.IPv4, 4001, 80, flagACK)), false)
}

func TestEcho(t *testing.T) {
	r := newRig(t, out("icmp"))
	request := build(here.IPv4, there.IPv4, protoICMP, 7, 0)
	reply := build(there.IPv4, here.IPv4, protoICMP, 7, 0)
	reply[20] = icmpEchoReply
	r.want("reply first", r.Inbound(reply), false)
	r.want("request", r.Outbound(request), true)
	r.want("reply", r.Inbound(reply), true)
	r.want("request of the other side with the same identifier", r.Inbound(build(there.IPv4, here.IPv4, protoICMP, 7, 0)), false)
	r.clock += int64(2 * lifeICMP)
	r.want("reply after the end", r.Inbound(reply), false)
}

func TestErrorsPassWithTheirFlow(t *testing.T) {
	r := newRig(t, out("udp"))
	sent := build(here.IPv4, there.IPv4, protoUDP, 4000, 9)
	unreachable := wrap(there.IPv4, here.IPv4, protoICMP, append([]byte{icmpUnreachable, 3, 0, 0, 0, 0, 0, 0}, sent[:28]...))
	r.want("error about nothing", r.Inbound(unreachable), false)
	r.want("datagram", r.Outbound(sent), true)
	r.want("error about it", r.Inbound(unreachable), true)
	cutShort := wrap(there.IPv4, here.IPv4, protoICMP, append([]byte{icmpUnreachable, 3, 0, 0, 0, 0, 0, 0}, sent[:16]...))
	r.want("error that quotes too little", r.Inbound(cutShort), false)
}

func TestFragmentsFollowTheFirst(t *testing.T) {
	r := newRig(t, in("udp", 53))
	first := build(there.IPv4, here.IPv4, protoUDP, 4000, 53)
	binary.BigEndian.PutUint16(first[4:], 99)
	binary.BigEndian.PutUint16(first[6:], 0x2000)
	later := build(there.IPv4, here.IPv4, protoUDP, 1, 1)
	binary.BigEndian.PutUint16(later[4:], 99)
	binary.BigEndian.PutUint16(later[6:], 3)
	r.want("later fragment alone", r.Inbound(later), false)
	r.want("first fragment", r.Inbound(first), true)
	r.want("later fragment", r.Inbound(later), true)
	binary.BigEndian.PutUint16(later[4:], 98)
	r.want("fragment of another packet", r.Inbound(later), false)
}

func TestForeignAddressesAreRefused(t *testing.T) {
	r := newRig(t, in("all"), out("all"))
	stranger := addressOf(3).IPv4
	r.want("from nobody", r.Inbound(build(stranger, here.IPv4, protoUDP, 1, 2)), false)
	r.want("to another address of the machine", r.Inbound(build(there.IPv4, netip.MustParseAddr("192.0.2.1"), protoUDP, 1, 2)), false)
	r.want("from another address of the machine", r.Outbound(build(netip.MustParseAddr("192.0.2.1"), there.IPv4, protoUDP, 1, 2)), false)
	r.want("to itself", r.Outbound(build(here.IPv4, here.IPv4, protoUDP, 1, 2)), false)
}

func TestTableIsBounded(t *testing.T) {
	r := newRig(t, in("udp"))
	for port := range 65535 {
		r.Inbound(build(there.IPv4, here.IPv4, protoUDP, uint16(port), 1))
		r.Inbound(build(there.IPv4, here.IPv4, protoUDP, uint16(port), 2))
	}
	if n := r.flows.size(); n > shardCount*flowsPerPart || n < shardCount*flowsPerPart/2 {
		t.Errorf("%d flows, want at most %d and most of them", n, shardCount*flowsPerPart)
	}
}

func TestUnknownActionIsAnError(t *testing.T) {
	f := NewFilter()
	rule := in("all")
	rule.Action = "log"
	if err := f.Set(t.Context(), Config{Rules: []api.CompiledRule{rule}}); err == nil {
		t.Error("accepted")
	}
}

func TestKnownFlowDoesNotAllocate(t *testing.T) {
	r := newRig(t, in("all"))
	question, answer := build(there.IPv4, here.IPv4, protoUDP, 4000, 53), build(here.IPv4, there.IPv4, protoUDP, 53, 4000)
	r.Inbound(question)
	if n := testing.AllocsPerRun(100, func() {
		if !r.Inbound(question) || !r.Outbound(answer) {
			t.Fatal("dropped")
		}
	}); n != 0 {
		t.Errorf("two packets allocate %.0f times", n)
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(build(there.IPv4, here.IPv4, protoTCP, 1, 2))
	f.Add(build(there.IPv6, here.IPv6, protoICMPv6, 1, 2))
	f.Add(wrap(there.IPv6, here.IPv6, protoFragment, []byte{protoUDP, 0, 0, 1, 0, 0, 0, 9}))
	f.Add(wrap(there.IPv6, here.IPv6, protoHopByHop, []byte{protoNoNext, 255, 0, 0, 0, 0, 0, 0}))
	f.Add([]byte{0x45})
	rules, err := compile(Config{
		Self: 1, Peers: table.Of(map[uint32]Addresses{1: here, 2: there}),
		Sets:  table.Of(map[string]*roaring.Bitmap{"me": roaring.BitmapOf(1), "them": roaring.BitmapOf(2)}),
		Rules: []api.CompiledRule{in("tcp", 80)},
	}, newLearned(), &ruleset{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		filter := NewFilter()
		filter.rules.Store(&generation{number: 1, first: -int64(time.Hour), rules: rules})
		if filter.Inbound(raw) {
			var p, inner packet
			if !parse(raw, &p, &inner) || p.proto != protoTCP || p.dport != 80 || p.dst != here.IPv4 && p.dst != here.IPv6 {
				t.Errorf("passed %x", raw)
			}
		}
		filter.Outbound(raw)
	})
}

func BenchmarkInbound(b *testing.B) {
	f := NewFilter()
	err := f.Set(b.Context(), Config{
		Self: 1, Peers: table.Of(map[uint32]Addresses{1: here, 2: there}),
		Sets:  table.Of(map[string]*roaring.Bitmap{"me": roaring.BitmapOf(1), "them": roaring.BitmapOf(2)}),
		Rules: []api.CompiledRule{in("all")},
	})
	if err != nil {
		b.Fatal(err)
	}
	raw := build(there.IPv4, here.IPv4, protoUDP, 4000, 53)
	b.ReportAllocs()
	for b.Loop() {
		f.Inbound(raw)
	}
}

// TestRulesCountWhatTheyJudge: each packet in the direction in which a flow was
// opened counts for the rule that decided, and for no other.
func TestRulesCountWhatTheyJudge(t *testing.T) {
	drop := in("udp", 99)
	drop.Id, drop.Action = "drop", "drop"
	r := newRig(t, in("udp"), out("udp"), drop)
	query := build(there.IPv4, here.IPv4, protoUDP, 4000, 53)
	answer := build(here.IPv4, there.IPv4, protoUDP, 53, 4000)
	refused := build(there.IPv4, here.IPv4, protoUDP, 4000, 99)
	counted := func(when, want string) {
		t.Helper()
		var list []string
		for _, met := range r.Status().Matched {
			list = append(list, fmt.Sprintf("%s %d %d", met.Rule, met.Packets, met.Bytes))
		}
		if got := strings.Join(list, ", "); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	length := len(query)
	counted("nothing", "drop 0 0, in 0 0, out 0 0")
	for range 3 {
		r.want("a query", r.Inbound(query), true)
		r.want("its answer", r.Outbound(answer), true)
	}
	for range 2 {
		r.want("what is dropped", r.Inbound(refused), false)
	}
	counted("a flow and two drops", fmt.Sprintf("drop 2 %d, in 3 %d, out 0 0", 2*length, 3*length))

	// Other rules: what stays goes on counting, whichever side sends first.
	r.rule(in("udp"), out("udp"))
	r.want("an answer after the change", r.Outbound(answer), true)
	counted("an answer", fmt.Sprintf("in 3 %d, out 0 0", 3*length))
	r.want("a query after the change", r.Inbound(query), true)
	counted("another query", fmt.Sprintf("in 4 %d, out 0 0", 4*length))

	// The flow belongs to another rule from now on.
	other := in("all")
	other.Id = "other"
	r.rule(other)
	r.want("a query under another rule", r.Inbound(query), true)
	counted("another rule", fmt.Sprintf("other 1 %d", length))
}

// size counts the flows.
func (t *flowTable) size() int {
	n := 0
	for i := range t.parts {
		t.parts[i].mu.Lock()
		n += len(t.parts[i].flows)
		t.parts[i].mu.Unlock()
	}
	return n
}

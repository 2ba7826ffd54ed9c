package firewall

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/table"
)

// routedConfig is a machine that carries 10.1.0.0/16, fd12:1::/48 and the
// addresses of a name for the others, and uses 10.2.0.0/16 and fd12:2::/48.
func routedConfig() Config {
	c := twoPeers()
	c.Routes = map[string]Destination{
		"carried": {Prefix: netip.MustParsePrefix("10.1.0.0/16"), Masquerade: true}, "carried6": {Prefix: netip.MustParsePrefix("fd12:1::/48")},
		"inner": {Prefix: netip.MustParsePrefix("10.1.9.0/24")}, "named": {},
		"used": {Prefix: netip.MustParsePrefix("10.2.0.0/16")}, "used6": {Prefix: netip.MustParsePrefix("fd12:2::/48")},
	}
	rule := func(direction api.CompiledRuleDirection, route string, end api.CompiledRuleRoute, protocol, act string, ports ...int) {
		r := api.CompiledRule{
			Id: string(direction) + route + string(end) + protocol + act, Direction: direction, Route: &end, Source: "them", Destination: route,
			Action: api.CompiledRuleAction(act), Protocol: api.CompiledRuleProtocol(protocol),
		}
		if end == "source" {
			r.Source, r.Destination = route, "them"
		}
		if len(ports) > 0 {
			r.Ports = &[]api.PortRange{{Start: ports[0], End: ports[1]}}
		}
		c.Rules = append(c.Rules, r)
	}
	for _, route := range []string{"carried", "carried6", "inner"} {
		rule("forward", route, "destination", "tcp", "accept", 80, 90)
	}
	rule("forward", "inner", "destination", "tcp", "drop", 85, 85)
	rule("forward", "carried", "source", "udp", "accept", 53, 53)
	rule("forward", "named", "destination", "all", "accept")
	for _, route := range []string{"used", "used6"} {
		rule("out", route, "destination", "tcp", "accept", 443, 443)
	}
	rule("in", "used", "source", "icmp", "accept")
	return c
}

// routedCase is a packet and what happens to it.
type routedCase struct {
	inbound  bool // from the tunnel
	src, dst string
	protocol uint8
	port     uint16
	allowed  bool
}

var routedCases = []routedCase{
	// Carried: from peers, to what the rules say.
	{true, "100.64.0.2", "10.1.0.5", protoTCP, 80, true},
	{true, "100.64.0.2", "10.1.0.5", protoTCP, 91, false},
	{true, "100.64.0.2", "10.1.0.5", protoUDP, 80, false},
	{true, "100.64.0.2", "10.1.0.5", protoTCP, 85, true},
	{true, "100.64.0.2", "10.1.9.5", protoTCP, 85, false}, // the drop of the inner range wins
	{true, "100.64.0.2", "10.1.9.5", protoTCP, 86, true},
	{true, "fd00:64::2", "fd12:1::5", protoTCP, 90, true},
	{true, "fd00:64::2", "fd12:1::5", protoTCP, 79, false},
	{true, "100.64.0.3", "10.1.0.5", protoTCP, 80, false}, // somebody else
	{true, "100.64.0.2", "10.3.0.5", protoTCP, 80, false}, // somewhere else
	{true, "100.64.0.2", "10.1.200.1", protoTCP, 80, true},
	// Learned for a name.
	{true, "100.64.0.2", "198.51.100.7", protoTCP, 5, true},
	{true, "100.64.0.2", "198.51.100.8", protoTCP, 5, false},
	// Opened: from behind this machine to peers.
	{false, "10.1.0.5", "100.64.0.2", protoUDP, 53, true},
	{false, "10.1.0.5", "100.64.0.2", protoUDP, 54, false},
	{false, "10.3.0.5", "100.64.0.2", protoUDP, 53, false},
	{false, "10.1.0.5", "100.64.0.3", protoUDP, 53, false},
	// Used by this machine.
	{false, "100.64.0.1", "10.2.0.5", protoTCP, 443, true},
	{false, "100.64.0.1", "10.2.0.5", protoTCP, 80, false},
	{false, "fd00:64::1", "fd12:2::5", protoTCP, 443, true},
	{false, "fd00:64::1", "fd12:2::5", protoUDP, 443, false},
	{true, "10.2.0.5", "100.64.0.1", protoICMP, 0, true},
	{true, "10.2.0.5", "100.64.0.1", protoTCP, 22, false},
	{true, "10.4.0.5", "100.64.0.1", protoICMP, 0, false},
}

func (c routedCase) packet(sport uint16) []byte {
	return build(netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst), c.protocol, sport, c.port)
}

var learnedAddress = []netip.Addr{netip.MustParseAddr("198.51.100.7")}

func TestFilterJudgesRoutedTraffic(t *testing.T) {
	f := NewFilter()
	if err := f.Set(t.Context(), routedConfig()); err != nil {
		t.Fatal(err)
	}
	if err := f.Learn("named", learnedAddress, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := f.Learn("nothing", learnedAddress, time.Minute); err == nil {
		t.Error("addresses of an unknown route are taken")
	}
	for i, c := range routedCases {
		if got := f.judge(c.packet(uint16(40000+i)), c.inbound); got != c.allowed {
			t.Errorf("%+v: %v", c, got)
		}
	}
	// The answer of a carried flow comes back, and no longer once the rule went.
	answer := build(netip.MustParseAddr("10.1.0.5"), there.IPv4, protoTCP, 80, 40000)
	answer[len(answer)-24+13] = flagSYN | flagACK
	if !f.Outbound(answer) {
		t.Error("the answer of a carried flow is dropped")
	}
	if err := f.Set(t.Context(), twoPeers()); err != nil {
		t.Fatal(err)
	}
	if f.Outbound(answer) {
		t.Error("the answer of a carried flow passes without its rule")
	}
}

func TestLearnedAddressesEnd(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := newLearned()
	l.now = func() time.Time { return now }
	if fresh := l.add("r", learnedAddress, time.Minute); len(fresh) != 1 || !l.holds("r", learnedAddress[0]) {
		t.Fatalf("not learned: %v", fresh)
	}
	now = now.Add(50 * time.Second)
	if fresh := l.add("r", learnedAddress, time.Minute); len(fresh) != 0 {
		t.Error("learned twice")
	}
	now = now.Add(50 * time.Second)
	if !l.holds("r", learnedAddress[0]) || l.holds("s", learnedAddress[0]) {
		t.Error("the second time did not prolong its life, or another route has it")
	}
	now = now.Add(10 * time.Second)
	if l.holds("r", learnedAddress[0]) {
		t.Error("the address outlives its time")
	}
	l.keep(map[string]Destination{"s": {}})
	if len(l.routes) != 0 {
		t.Error("a route that is gone is kept")
	}
}

func TestRulesOfManyRoutesAreOne(t *testing.T) {
	c := twoPeers()
	c.Routes = map[string]Destination{}
	end := api.CompiledRuleRouteDestination
	var ids []string
	for i := range 200 {
		id := string(rune('a'+i%26)) + netip.AddrFrom4([4]byte{10, 1, byte(i), 0}).String()
		c.Routes[id] = Destination{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24)}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		c.Rules = append(c.Rules, api.CompiledRule{Id: "r" + id, Direction: "forward", Route: &end, Source: "them", Destination: id, Action: "accept", Protocol: "tcp"})
	}
	l := layoutOf(t, c)
	if len(l.rules) != 1 {
		t.Errorf("%d rules for routes that differ in their range only, want 1", len(l.rules))
	}
	for _, met := range l.counted {
		if want := (Count{Rule: "r" + ids[0], Also: len(ids) - 1}); met != want {
			t.Errorf("counted as %+v, want %+v", met, want)
		}
	}
	fewer := c
	fewer.Rules = c.Rules[1:]
	step := diff(l, layoutOf(t, fewer))
	if len(step.gone)+len(step.newRules)+len(step.newSets)+len(step.goneSets) != 0 || len(step.remove) != 1 {
		t.Errorf("one route less: %+v", step)
	}
}

func TestRoutesHoldNoPeers(t *testing.T) {
	c := twoPeers()
	end := api.CompiledRuleRouteSource
	c.Routes = map[string]Destination{"all": {Prefix: netip.MustParsePrefix("0.0.0.0/0")}}
	c.Rules = []api.CompiledRule{{Id: "r", Direction: "in", Route: &end, Source: "all", Destination: "them", Action: "accept", Protocol: "all"}}
	l := layoutOf(t, c)
	for name, set := range l.sets {
		for _, r := range set.ranges {
			if r.Contains(there.IPv4) {
				t.Errorf("the set %s holds a peer: %s", name, r)
			}
		}
		if !slices.ContainsFunc(set.ranges, func(r netip.Prefix) bool { return r.Contains(netip.MustParseAddr("100.65.0.1")) }) {
			t.Errorf("the set %s lacks what lies beside the network: %v", name, set.ranges)
		}
	}
	f := NewFilter()
	if err := f.Set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if f.Inbound(build(there.IPv4, here.IPv4, protoUDP, 1, 2)) {
		t.Error("a peer passes by the rule of a route")
	}
	if !f.Inbound(build(netip.MustParseAddr("198.51.100.1"), here.IPv4, protoUDP, 1, 2)) {
		t.Error("the traffic of the route is dropped")
	}
}

func TestMergeRanges(t *testing.T) {
	parse := func(list ...string) (ranges []netip.Prefix) {
		for _, text := range list {
			ranges = append(ranges, netip.MustParsePrefix(text))
		}
		return ranges
	}
	got := mergeRanges(parse("10.1.2.0/24", "10.0.0.0/8", "192.168.1.0/24", "192.168.0.0/24", "10.0.0.0/16", "192.168.0.0/24"))
	if want := parse("10.0.0.0/8", "192.168.0.0/24", "192.168.1.0/24"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for text, want := range map[string]string{"10.0.0.0/8": "10.255.255.255", "0.0.0.0/0": "255.255.255.255", "fd00::/64": "fd00::ffff:ffff:ffff:ffff", "1.2.3.4/32": "1.2.3.4"} {
		if got := lastOf(netip.MustParsePrefix(text)).String(); got != want {
			t.Errorf("the last address of %s is %s, want %s", text, got, want)
		}
	}
}

func twoPeers(rules ...api.CompiledRule) Config {
	return Config{
		Interface: "wt0", Self: 1, Peers: table.Of(map[uint32]Addresses{1: here, 2: there}),
		Networks: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/16"), netip.MustParsePrefix("fd00:64::/64")},
		Sets:     table.Of(map[string]*roaring.Bitmap{"me": roaring.BitmapOf(1), "them": roaring.BitmapOf(2)}),
		Rules:    rules,
	}
}

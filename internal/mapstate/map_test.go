package mapstate_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
	"github.com/wattlenet/wattle/internal/verdict"
)

func self() api.SelfView {
	return api.SelfView{N: 1, Id: "p1", Name: "one", Key: "k1", Ip: "100.64.0.1", Ipv6: "fd00::1", Network: "100.64.0.0/10", NetworkV6: "fd00::/64", DnsDomain: "wattle.internal", Approved: true}
}

func peer(n uint32, name string) *api.PeerEntry {
	return &api.PeerEntry{N: n, Id: "p-" + name, Key: "k-" + name, Name: name, Ip: "100.64.0.9", Ipv6: "fd00::9"}
}

func list(n ...uint32) *api.Ordinals { return &api.Ordinals{List: &n} }

func rule(id, direction, source, destination string) *api.CompiledRule {
	return &api.CompiledRule{
		Id: id, Direction: api.CompiledRuleDirection(direction), Source: source, Destination: destination,
		Action: api.CompiledRuleActionAccept, Protocol: api.CompiledRuleProtocolTcp, Ports: &[]api.PortRange{{Start: 22, End: 22}},
	}
}

func ops() []api.MapOp {
	return []api.MapOp{
		{Op: api.MapOpOpPeerUpsert, Peer: peer(7, "web")},
		{Op: api.MapOpOpPeerUpsert, Peer: peer(8, "db")},
		{Op: api.MapOpOpSetPut, Set: new("s1"), Members: list(7, 8)},
		{Op: api.MapOpOpRuleUpsert, Rule: rule("r1", "in", "s1", "elsewhere")},
	}
}

func route(id, role string, sets ...string) *api.CompiledRoute {
	r := &api.CompiledRoute{Id: id, Role: api.CompiledRouteRole(role), Network: "n1", Name: "office", Prefix: new("10.0.0.0/24")}
	if len(sets) > 0 {
		r.Routers = &[]api.RouteRouter{}
	}
	for i, set := range sets {
		*r.Routers = append(*r.Routers, api.RouteRouter{Set: set, Metric: 10 - i})
	}
	return r
}

func routedRule(id, direction, end, source, destination string) *api.CompiledRule {
	r := rule(id, direction, source, destination)
	r.Route = new(api.CompiledRuleRoute(end))
	return r
}

// routed uses a route through the set of ops.
func routed() []api.MapOp {
	return []api.MapOp{
		{Op: api.MapOpOpRouteUpsert, Route: route("t1", "use", "s1")},
		{Op: api.MapOpOpRuleUpsert, Rule: routedRule("rt", "out", "destination", "elsewhere", "t1")},
	}
}

func TestRoutesComeAndGo(t *testing.T) {
	m := filled(t)
	more := []api.MapOp{
		{Op: api.MapOpOpSetPut, Set: new("s2"), Members: list(8)},
		{Op: api.MapOpOpRouteUpsert, Route: route("t2", "use", "s1", "s2")},
	}
	if err := m.Apply(deltaFor(t, m, append(routed(), more...)...)); err != nil {
		t.Fatal(err)
	}
	want := []mapstate.Candidate{{Ordinal: 8, Metric: 9}, {Ordinal: 7, Metric: 10}}
	if got := m.Candidates(m.Routes.At("t2")); !slices.Equal(got, want) {
		t.Errorf("the routers are %v, want %v", got, want)
	}
	before := m.Clone()
	packet := verdict.Packet{Source: 1, Destination: 7, Protocol: verdict.NumberTCP, Port: 22}
	if m.Verdict(time.Now()).Evaluate(packet).Allowed {
		t.Error("a rule about a route allows a packet to its router")
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var read mapstate.Map
	if err := json.Unmarshal(raw, &read); err != nil || !read.Equal(m) {
		t.Errorf("a stored map with routes comes back as %+v, error %v", read, err)
	}
	gone := []api.MapOp{
		{Op: api.MapOpOpRuleRemove, Id: new("rt")},
		{Op: api.MapOpOpRouteRemove, Id: new("t1")},
		{Op: api.MapOpOpRouteRemove, Id: new("t2")},
		{Op: api.MapOpOpSetRemove, Set: new("s2")},
	}
	if err := m.Apply(deltaFor(t, m, gone...)); err != nil {
		t.Fatal(err)
	}
	if !m.SameContent(filled(t)) || m.SameContent(before) {
		t.Errorf("without the routes the map is %+v", m)
	}
	other := route("t1", "use", "s1")
	other.KeepRoute = new(true)
	if mapstate.HashRoute(*other) == mapstate.HashRoute(*route("t1", "use", "s1")) {
		t.Error("a flag does not count in the digest")
	}
}

func TestTermsCount(t *testing.T) {
	at := time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)
	m := filled(t)
	plain := m.Rules.At("r1")
	packet := verdict.Packet{Source: 7, Destination: 1, Protocol: verdict.NumberTCP, Port: 22}
	for name, change := range map[string]func(r *api.CompiledRule){
		"not_before": func(r *api.CompiledRule) { r.NotBefore = new(at.Add(time.Second)) },
		"not_after":  func(r *api.CompiledRule) { r.NotAfter = &at },
		"mode":       func(r *api.CompiledRule) { r.Mode = new(api.CompiledRuleModeMonitor) },
	} {
		rule := plain
		change(&rule)
		if mapstate.HashRule(rule) == mapstate.HashRule(plain) {
			t.Errorf("%s does not count in the digest", name)
		}
		timed := m.Clone()
		if err := timed.Apply(deltaFor(t, timed, api.MapOp{Op: api.MapOpOpRuleUpsert, Rule: &rule})); err != nil {
			t.Fatal(err)
		}
		if timed.SameContent(m) || timed.Verdict(at).Evaluate(packet).Allowed || !m.Verdict(at).Evaluate(packet).Allowed {
			t.Errorf("%s: the rule judges as the one without", name)
		}
	}
	unknown := plain
	unknown.Mode = new(api.CompiledRuleMode("guess"))
	err := m.Clone().Apply(api.DeltaEvent{Prev: m.Serial, Serial: m.Serial + 1, Ops: []api.MapOp{{Op: api.MapOpOpRuleUpsert, Rule: &unknown}}})
	if err == nil || !strings.Contains(err.Error(), `unknown mode "guess"`) {
		t.Errorf("a mode that nobody knows gives %v", err)
	}
}

// deltaFor gives ops the digest that they lead to.
func deltaFor(t *testing.T, m *mapstate.Map, ops ...api.MapOp) api.DeltaEvent {
	t.Helper()
	delta := api.DeltaEvent{Type: api.DeltaEventTypeDelta, Prev: m.Serial, Serial: m.Serial + 1, Ops: ops}
	err := m.Clone().Apply(delta)
	if !errors.Is(err, mapstate.ErrDigest) {
		t.Fatalf("got %v, want a digest that differs", err)
	}
	_, rest, _ := strings.Cut(err.Error(), "would be ")
	delta.Digest = rest[:32]
	return delta
}

func filled(t *testing.T) *mapstate.Map {
	t.Helper()
	m := mapstate.New("e1", 5, self())
	if err := m.Apply(deltaFor(t, m, ops()...)); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDeltaChangesTheMap(t *testing.T) {
	m := filled(t)
	if m.Serial != 6 || m.Peers.Len() != 2 || !m.Sets.At("s1").Equals(roaring.BitmapOf(7, 8)) || m.Rules.Len() != 1 {
		t.Fatalf("got %+v", m)
	}
	packet := verdict.Packet{Source: 7, Destination: 1, Protocol: verdict.NumberTCP, Port: 22}
	if got := m.Verdict(time.Now()).Evaluate(packet); !got.Allowed || got.Rule != "r1" {
		t.Errorf("an allowed packet gets %+v", got)
	}
	packet.Source, packet.Destination = 1, 7
	if m.Verdict(time.Now()).Evaluate(packet).Allowed {
		t.Error("a rule for arriving packets allows a leaving one")
	}
	err := m.Apply(deltaFor(t, m,
		api.MapOp{Op: api.MapOpOpSetPatch, Set: new("s1"), Remove: list(7)},
		api.MapOp{Op: api.MapOpOpPeerRemove, N: new(uint32(7))},
		api.MapOp{Op: api.MapOpOpPeerUpsert, Peer: peer(8, "database")}))
	if err != nil {
		t.Fatal(err)
	}
	if m.Peers.Len() != 1 || m.Peers.At(8).Name != "database" || m.Sets.At("s1").GetCardinality() != 1 {
		t.Errorf("got %+v", m)
	}
}

func TestDigestIsIndependentOfOrder(t *testing.T) {
	a, b := mapstate.New("e1", 5, self()), mapstate.New("e1", 5, self())
	shuffled := ops()
	shuffled[0], shuffled[1] = shuffled[1], shuffled[0]
	left, right := deltaFor(t, a, ops()...), deltaFor(t, b, shuffled...)
	if left.Digest != right.Digest {
		t.Errorf("%s in one order, %s in another", left.Digest, right.Digest)
	}
}

func TestRefusedDeltasChangeNothing(t *testing.T) {
	cases := map[string]struct {
		ops  []api.MapOp
		want string
	}{
		"unknown op":              {[]api.MapOp{{Op: "dance"}}, "unknown op"},
		"absent field":            {[]api.MapOp{{Op: api.MapOpOpPeerUpsert}}, "absent"},
		"member without entry":    {[]api.MapOp{{Op: api.MapOpOpSetPatch, Set: new("s1"), Add: list(9)}}, "unknown peer 9"},
		"member there already":    {[]api.MapOp{{Op: api.MapOpOpSetPatch, Set: new("s1"), Add: list(7)}}, "holds what shall come"},
		"member not there":        {[]api.MapOp{{Op: api.MapOpOpSetPatch, Set: new("s1"), Remove: list(9)}}, "lacks what shall go"},
		"patch of unknown set":    {[]api.MapOp{{Op: api.MapOpOpSetPatch, Set: new("s2"), Add: list(7)}}, "no set s2"},
		"peer still in a set":     {[]api.MapOp{{Op: api.MapOpOpPeerRemove, N: new(uint32(7))}}, "still holds the peer 7"},
		"peer unknown":            {[]api.MapOp{{Op: api.MapOpOpPeerRemove, N: new(uint32(70))}}, "no peer 70"},
		"set still in a rule":     {[]api.MapOp{{Op: api.MapOpOpSetRemove, Set: new("s1")}}, "still names the set s1"},
		"rule of unknown set":     {[]api.MapOp{{Op: api.MapOpOpRuleUpsert, Rule: rule("r2", "out", "s1", "s2")}}, "unknown set s2"},
		"rule of odd direction":   {[]api.MapOp{{Op: api.MapOpOpRuleUpsert, Rule: rule("r2", "up", "s1", "s1")}}, "unknown direction"},
		"rule unknown":            {[]api.MapOp{{Op: api.MapOpOpRuleRemove, Id: new("r2")}}, "no rule r2"},
		"route of unknown set":    {[]api.MapOp{{Op: api.MapOpOpRouteUpsert, Route: route("t1", "use", "s9")}}, "unknown set s9"},
		"route without routers":   {[]api.MapOp{{Op: api.MapOpOpRouteUpsert, Route: route("t1", "use")}}, "names 0 routers"},
		"route served by others":  {[]api.MapOp{{Op: api.MapOpOpRouteUpsert, Route: route("t1", "serve", "s1")}}, "names 1 routers"},
		"route of odd role":       {[]api.MapOp{{Op: api.MapOpOpRouteUpsert, Route: route("t1", "own", "s1")}}, "unknown role"},
		"route to nowhere":        {[]api.MapOp{{Op: api.MapOpOpRouteUpsert, Route: &api.CompiledRoute{Id: "t1", Role: "serve"}}}, "a prefix or domains"},
		"route with host bits":    {[]api.MapOp{{Op: api.MapOpOpRouteUpsert, Route: &api.CompiledRoute{Id: "t1", Role: "serve", Prefix: new("10.0.0.1/8")}}}, "10.0.0.1/8"},
		"route unknown":           {[]api.MapOp{{Op: api.MapOpOpRouteRemove, Id: new("t9")}}, "no route t9"},
		"route still in a rule":   {append(routed(), api.MapOp{Op: api.MapOpOpRouteRemove, Id: new("t1")}), "still names the route t1"},
		"set still in a route":    {append(routed(), api.MapOp{Op: api.MapOpOpRuleRemove, Id: new("r1")}, api.MapOp{Op: api.MapOpOpSetRemove, Set: new("s1")}), "the route t1 still names the set s1"},
		"rule of unknown route":   {[]api.MapOp{{Op: api.MapOpOpRuleUpsert, Rule: routedRule("r2", "out", "destination", "s1", "t1")}}, "unknown route t1"},
		"rule of the wrong end":   {append(routed(), api.MapOp{Op: api.MapOpOpRuleUpsert, Rule: routedRule("r2", "in", "destination", "s1", "t1")}), "cannot have the route"},
		"forward of a used route": {append(routed(), api.MapOp{Op: api.MapOpOpRuleUpsert, Rule: routedRule("r2", "forward", "destination", "s1", "t1")}), "of the role use"},
		"forward between sets":    {[]api.MapOp{{Op: api.MapOpOpRuleUpsert, Rule: rule("r2", "forward", "s1", "s1")}}, "neither end is a route"},
		"list and bitmap":         {[]api.MapOp{{Op: api.MapOpOpSetPut, Set: new("s1"), Members: &api.Ordinals{List: &[]uint32{7}, Bitmap: &[]byte{1}}}}, "not both"},
		"malformed bitmap":        {[]api.MapOp{{Op: api.MapOpOpSetPut, Set: new("s1"), Members: &api.Ordinals{Bitmap: &[]byte{1, 2, 3}}}}, "bitmap"},
		"first op good, next bad": {append(ops(), api.MapOp{Op: api.MapOpOpRuleRemove, Id: new("r9")}), "no rule r9"},
		"other digest": {[]api.MapOp{
			{Op: api.MapOpOpPeerUpsert, Peer: peer(9, "new")},
			{Op: api.MapOpOpSetPatch, Set: new("s1"), Add: list(9), Remove: list(7)},
			{Op: api.MapOpOpPeerRemove, N: new(uint32(7))},
			{Op: api.MapOpOpRuleUpsert, Rule: rule("r1", "out", "x", "s1")},
			{Op: api.MapOpOpSelf, Self: &api.SelfView{}},
			{Op: api.MapOpOpRuleRemove, Id: new("r1")},
			{Op: api.MapOpOpSetRemove, Set: new("s1")},
		}, mapstate.ErrDigest.Error()},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := filled(t)
			before := m.Clone()
			err := m.Apply(api.DeltaEvent{Prev: 6, Serial: 7, Ops: c.ops, Digest: "00"})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
			if !m.Equal(before) {
				t.Errorf("the map changed from %+v to %+v", before, m)
			}
		})
	}
}

func TestDeltaMustFollow(t *testing.T) {
	m := filled(t)
	for _, prev := range []int64{5, 7} {
		err := m.Apply(api.DeltaEvent{Prev: prev, Serial: 9, Digest: m.Digest().String()})
		if !errors.Is(err, mapstate.ErrGap) {
			t.Errorf("a delta from %d to a map at 6 gives %v", prev, err)
		}
	}
}

func TestMapSurvivesStorage(t *testing.T) {
	m := filled(t)
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var read mapstate.Map
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	if !read.Equal(m) {
		t.Errorf("got %+v, want %+v", read, m)
	}
	altered := strings.Replace(string(raw), "k-web", "k-bew", 1)
	if err := json.Unmarshal([]byte(altered), &read); !errors.Is(err, mapstate.ErrDigest) {
		t.Errorf("an altered map gives %v", err)
	}
}

// TestSnapshotIsTakenWithWhatNoMachineCanFollow stores a map, changes an item in the file, and reads it with the digest that it
// has then: the item is named, and its drop is enforced wider.
func TestSnapshotIsTakenWithWhatNoMachineCanFollow(t *testing.T) {
	for name, c := range map[string]struct {
		from, to string
		want     string
		inForce  int
	}{
		"whole":            {"", "", "", 1},
		"odd protocol":     {`"protocol":"tcp"`, `"protocol":"gre"`, "unknown protocol", 0},
		"absent set":       {`"source":"s1"`, `"source":"s9"`, "unknown set s9", 0},
		"drop of the same": {`"action":"accept","destination":"elsewhere","direction":"in","id":"r1","ports":[{"end":22,"start":22}],"protocol":"tcp"`, `"action":"drop","destination":"elsewhere","direction":"in","id":"r1","ports":[{"end":22,"start":22}],"protocol":"gre"`, "unknown protocol", 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := filled(t)
			raw, err := json.Marshal(m)
			if err != nil || !strings.Contains(string(raw), c.from) {
				t.Fatal(err, string(raw))
			}
			text := strings.Replace(string(raw), c.from, c.to, 1)
			read := &mapstate.Map{}
			if err = json.Unmarshal([]byte(text), read); err != nil {
				_, rest, _ := strings.Cut(err.Error(), "it is ")
				digest, _, _ := strings.Cut(rest, ",")
				err = json.Unmarshal([]byte(strings.Replace(text, m.Digest().String(), digest, 1)), read)
			}
			if err != nil {
				t.Fatal(err)
			}
			faults := read.Faults()
			if (c.want == "") != (len(faults) == 0) || len(faults) > 0 && !strings.Contains(faults[0].Err.Error(), c.want) {
				t.Errorf("faults %v, want %q", faults, c.want)
			}
			if got := read.InForce(); len(got) != c.inForce || len(faults) > 0 && c.inForce > 0 && (got[0].Action != "drop" || got[0].Protocol != "all") {
				t.Errorf("in force: %+v", got)
			}
		})
	}
}

func TestOrdinalsTravel(t *testing.T) {
	for _, size := range []uint64{0, 1, 15, 16, 5000} {
		set := roaring.New()
		set.AddRange(3, 3+size)
		wire, err := mapstate.EncodeOrdinals(set)
		if err != nil {
			t.Fatal(err)
		}
		if (wire.List != nil) != (size < 16) {
			t.Errorf("a set of %d travels as list: %t", size, wire.List != nil)
		}
		read, err := mapstate.DecodeOrdinals(&wire)
		if err != nil || !read.Equals(set) {
			t.Errorf("a set of %d comes back as %d members, error %v", size, read.GetCardinality(), err)
		}
	}
}

func FuzzApply(f *testing.F) {
	for _, seed := range append(ops(), routed()...) {
		raw, err := json.Marshal(api.DeltaEvent{Type: api.DeltaEventTypeDelta, Prev: 5, Serial: 6, Ops: []api.MapOp{seed}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	big := roaring.New()
	big.AddRange(0, 40)
	wire, err := mapstate.EncodeOrdinals(big)
	if err != nil {
		f.Fatal(err)
	}
	raw, err := json.Marshal(api.DeltaEvent{Prev: 5, Serial: 6, Ops: []api.MapOp{{Op: api.MapOpOpSetPut, Set: new("s"), Members: &wire}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, line []byte) {
		var delta api.DeltaEvent
		if json.Unmarshal(line, &delta) != nil {
			return
		}
		m := mapstate.New("e1", 5, self())
		before := m.Clone()
		if err := m.Apply(delta); err != nil && !m.Equal(before) {
			t.Errorf("a refused delta changed the map: %v", err)
		}
	})
}

func FuzzDecodeOrdinals(f *testing.F) {
	for _, size := range []uint64{16, 5000} {
		set := roaring.New()
		set.AddRange(3, 3+size)
		wire, err := mapstate.EncodeOrdinals(set)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(*wire.Bitmap)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		set, err := mapstate.DecodeOrdinals(&api.Ordinals{Bitmap: &raw})
		if err != nil {
			return
		}
		wire, err := mapstate.EncodeOrdinals(set)
		if err != nil {
			t.Fatal(err)
		}
		again, err := mapstate.DecodeOrdinals(&wire)
		if err != nil || !again.Equals(set) {
			t.Errorf("a set that was read is written as another: %v", err)
		}
	})
}

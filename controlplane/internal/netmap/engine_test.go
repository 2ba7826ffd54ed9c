package netmap

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

func simplePeer(id string, n uint32) PeerPut {
	return PeerPut{Peer{ID: id, Ordinal: n, Key: "key-" + id, Name: id, Approved: true}}
}

func simplePolicy(id string, rules ...Rule) PolicyPut {
	for i := range rules {
		rules[i].ID, rules[i].Enabled = fmt.Sprint("r", i), true
	}
	return PolicyPut{Policy{ID: id, Enabled: true, Rules: rules}}
}

// small has the peers a, b, c, d with the ordinals 1 to 4 in groups ga to gd of their own, and all in group all.
func small(t *testing.T, more ...Change) *Engine {
	t.Helper()
	e := mustNew(t)
	changes := []Change{GroupPut{ID: "all"}}
	for n, id := range []string{"a", "b", "c", "d"} {
		changes = append(changes, simplePeer(id, uint32(n+1)), GroupPut{"g" + id, []string{id}}, MembersAdd{"all", []string{id}})
	}
	if err := e.Load(1, append(changes, more...)); err != nil {
		t.Fatal(err)
	}
	return e
}

// sees lists who sees whom as "ab" for: a sees b.
func sees(e *Engine) string {
	var list []string
	for _, a := range []string{"a", "b", "c", "d"} {
		for _, b := range []string{"a", "b", "c", "d"} {
			if e.Sees(a, b) {
				list = append(list, a+b)
			}
		}
	}
	return strings.Join(list, " ")
}

func reaches(t *testing.T, e *Engine) string {
	t.Helper()
	var list []string
	for _, a := range []string{"a", "b", "c", "d"} {
		reached, err := e.Accessible(a)
		if err != nil {
			t.Fatal(err)
		}
		if count, err := e.AccessibleCount(a); err != nil || count != len(reached) {
			t.Errorf("%s reaches %d peers by list and %d by count, error %v", a, len(reached), count, err)
		}
		for _, b := range reached {
			list = append(list, a+b)
		}
	}
	return strings.Join(list, " ")
}

func TestWhoSeesWhom(t *testing.T) {
	groups := func(ids ...string) []string { return ids }
	cases := map[string]struct {
		changes       []Change
		sees, reaches string
	}{
		"nobody without a policy": {nil, "", ""},
		"one direction shows both sides": {
			[]Change{simplePolicy("p", Rule{Sources: groups("ga"), Destinations: groups("gb")})}, "ab ba", "ab",
		},
		"both directions": {
			[]Change{simplePolicy("p", Rule{Sources: groups("ga"), Destinations: groups("gb"), Bidirectional: true})}, "ab ba", "ab ba",
		},
		"several groups at an end": {
			[]Change{simplePolicy("p", Rule{Sources: groups("ga", "gb"), Destinations: groups("gc")})}, "ac bc ca cb", "ac bc",
		},
		"single peers": {
			[]Change{simplePolicy("p", Rule{SourcePeer: "a", DestinationPeer: "d"})}, "ad da", "ad",
		},
		"a single peer and a group": {
			[]Change{simplePolicy("p", Rule{SourcePeer: "a", Destinations: groups("all")})}, "ab ac ad ba ca da", "ab ac ad",
		},
		"a drop of all protocols hides": {
			[]Change{simplePolicy("p", Rule{Sources: groups("all"), Destinations: groups("all")}, Rule{Drop: true, Bidirectional: true, Sources: groups("ga"), Destinations: groups("gb", "gc", "gd")})},
			"bc bd cb cd db dc", "bc bd cb cd db dc",
		},
		"a drop in one direction leaves the other": {
			[]Change{simplePolicy("p", Rule{Sources: groups("ga"), Destinations: groups("gb"), Bidirectional: true}, Rule{Drop: true, Sources: groups("ga"), Destinations: groups("gb")})},
			"ab ba", "ba",
		},
		"a drop of ports shows nobody new": {
			[]Change{
				simplePolicy("p", Rule{Sources: groups("ga"), Destinations: groups("gb")}),
				simplePolicy("q", Rule{Drop: true, Protocol: "tcp", Ports: []PortRange{{22, 22}}, Sources: groups("all"), Destinations: groups("gb")}),
			}, "ab ba", "ab",
		},
		"a disabled policy": {
			[]Change{PolicyPut{Policy{ID: "p", Rules: []Rule{{ID: "r", Enabled: true, Sources: groups("ga"), Destinations: groups("gb")}}}}}, "", "",
		},
		"a disabled rule": {
			[]Change{PolicyPut{Policy{ID: "p", Enabled: true, Rules: []Rule{{ID: "r", Sources: groups("ga"), Destinations: groups("gb")}}}}}, "", "",
		},
		"an unapproved peer": {
			[]Change{simplePolicy("p", Rule{Sources: groups("all"), Destinations: groups("all")}), PeerPut{Peer{ID: "d", Ordinal: 4}}},
			"ab ac ba bc ca cb", "ab ac ba bc ca cb",
		},
		"a group that is gone": {
			[]Change{simplePolicy("p", Rule{Sources: groups("ga", "gb"), Destinations: groups("gc")}), GroupRemove{"ga"}}, "bc cb", "bc",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			loaded := small(t, c.changes...)
			if got := sees(loaded); got != c.sees {
				t.Errorf("these see each other: %q, want %q", got, c.sees)
			}
			if got := reaches(t, loaded); got != c.reaches {
				t.Errorf("these reach each other: %q, want %q", got, c.reaches)
			}
			changed := small(t)
			if len(c.changes) > 0 {
				if _, err := changed.Apply(2, c.changes...); err != nil {
					t.Fatal(err)
				}
			}
			if got := sees(changed); got != c.sees {
				t.Errorf("after a write these see each other: %q, want %q", got, c.sees)
			}
		})
	}
}

// TestWhoIsLed tells who meets whom because of destinations behind c, and who may open traffic there.
func TestWhoIsLed(t *testing.T) {
	host := netip.MustParsePrefix("10.0.0.5/32")
	behind := []Change{RouterPut{Router{ID: "v", Network: "w", Peer: "c", Metric: 1}}, ResourcePut{Resource{ID: "n", Network: "w", Prefix: host, Groups: []string{"gres"}}}, GroupPut{ID: "gres"}}
	groups := func(ids ...string) []string { return ids }
	cases := map[string]struct {
		changes []Change
		sees    string
		// users and routers are the peers that use and serve, each with its number of rules about routes.
		users, routers string
	}{
		"no policy":                         {nil, "", "", "c0"},
		"a group of resources":              {[]Change{simplePolicy("p", Rule{Sources: groups("ga"), Destinations: groups("gres")})}, "ac ca", "a1", "c1"},
		"a resource by its id":              {[]Change{simplePolicy("p", Rule{Sources: groups("ga", "gb"), DestinationResource: "n"})}, "ac bc ca cb", "a1 b1", "c1"},
		"a resource opens traffic to peers": {[]Change{simplePolicy("p", Rule{SourceResource: "n", Destinations: groups("gd")})}, "cd dc", "d1", "c1"},
		"both ways":                         {[]Change{simplePolicy("p", Rule{Sources: groups("ga"), DestinationResource: "n", Bidirectional: true})}, "ac ca", "a2", "c2"},
		"the router itself":                 {[]Change{simplePolicy("p", Rule{Sources: groups("gc"), Destinations: groups("gres")})}, "", "", "c1"},
		"a resource that is not there":      {[]Change{simplePolicy("p", Rule{Sources: groups("ga"), DestinationResource: "x"})}, "", "", "c0"},
		"no router":                         {[]Change{simplePolicy("p", Rule{Sources: groups("ga"), DestinationResource: "n"}), RouterRemove{"v"}}, "", "", ""},
		"a router of another network":       {[]Change{simplePolicy("p", Rule{Sources: groups("ga"), DestinationResource: "n"}), RouterRemove{"v"}, RouterPut{Router{ID: "v", Network: "w2", Peer: "c", Metric: 1}}}, "", "", ""},
		"groups of routers":                 {[]Change{simplePolicy("p", Rule{Sources: groups("ga"), DestinationResource: "n"}), RouterPut{Router{ID: "v2", Network: "w", Groups: groups("gd"), Metric: 1}}}, "ac ad ca da", "a1", "c1 d1"},
		"a drop hides":                      {[]Change{simplePolicy("p", Rule{Sources: groups("all"), DestinationResource: "n"}, Rule{Drop: true, Sources: groups("gb"), Destinations: groups("gres")})}, "ac ca cd dc", "a1 d1", "c1"},
		"a drop of ports":                   {[]Change{simplePolicy("p", Rule{Sources: groups("ga"), DestinationResource: "n"}, Rule{Drop: true, Protocol: "tcp", Sources: groups("all"), Destinations: groups("gres")})}, "ac ca", "a2", "c2"},
		"an unapproved router": {
			[]Change{simplePolicy("p", Rule{Sources: groups("ga"), DestinationResource: "n"}), PeerPut{Peer{ID: "c", Ordinal: 3}}}, "", "a1", "",
		},
		"a route": {[]Change{RouterRemove{"v"}, RoutePut{Route{ID: "t", NetworkID: "lan", Prefix: host, Peer: "d", Groups: groups("ga", "gb"), Metric: 1}}}, "ad bd da db", "a1 b1", "d1"},
		"a route with access control": {
			[]Change{
				RouterRemove{"v"},
				RoutePut{Route{ID: "t", NetworkID: "lan", Prefix: host, Peer: "d", Groups: groups("ga", "gb"), AccessControlGroups: groups("gac"), Metric: 1}},
				simplePolicy("p", Rule{Sources: groups("ga", "gc"), Destinations: groups("gac")}),
			}, "ad bd da", "a1 b0", "d1",
		},
		"routes that stand in for each other": {
			[]Change{
				RouterRemove{"v"},
				RoutePut{Route{ID: "t1", NetworkID: "lan", Prefix: host, Peer: "c", Groups: groups("all"), Metric: 1}},
				RoutePut{Route{ID: "t2", NetworkID: "lan", Prefix: host, Peer: "d", Groups: groups("all"), Metric: 2}},
			}, "ac ad bc bd ca cb cd da db dc", "a2 b2", "c1 d1",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := small(t, append(behind, GroupPut{ID: "gac"})...)
			if len(c.changes) > 0 {
				if _, err := e.Apply(2, c.changes...); err != nil {
					t.Fatal(err)
				}
			}
			if got := sees(e); got != c.sees {
				t.Errorf("these see each other: %q, want %q", got, c.sees)
			}
			if users, routers := led(e); users != c.users || routers != c.routers {
				t.Errorf("users %q, routers %q; want %q and %q", users, routers, c.users, c.routers)
			}
		})
	}
}

func led(e *Engine) (users, routers string) {
	var lists [2][]string
	for _, id := range []string{"a", "b", "c", "d"} {
		c := e.peers[id].class
		about := 0
		for _, r := range c.rules {
			if r.Route != nil {
				about++
			}
		}
		for _, r := range c.routes {
			side := 0
			if r.Role == api.CompiledRouteRoleServe {
				side = 1
			}
			if told := fmt.Sprint(id, about); !slices.Contains(lists[side], told) {
				lists[side] = append(lists[side], told)
			}
		}
	}
	return strings.Join(lists[0], " "), strings.Join(lists[1], " ")
}

func TestRoutersAreAccessible(t *testing.T) {
	e := small(t, RouterPut{Router{ID: "v", Network: "w", Peer: "c", Metric: 1}},
		ResourcePut{Resource{ID: "n", Network: "w", Prefix: netip.MustParsePrefix("10.0.0.5/32")}},
		simplePolicy("p", Rule{Sources: []string{"ga"}, DestinationResource: "n"}, Rule{Sources: []string{"ga"}, Destinations: []string{"gb"}}))
	if got := reaches(t, e); got != "ab ac" {
		t.Errorf("these reach each other: %q", got)
	}
}

func TestChangesThatDoNotFitChangeNothing(t *testing.T) {
	cases := map[string]Change{
		"unknown group":         MembersAdd{"nowhere", []string{"a"}},
		"unknown member":        MembersAdd{"ga", []string{"nobody"}},
		"taken ordinal":         simplePeer("e", 1),
		"another ordinal":       simplePeer("a", 9),
		"a peer with no id":     simplePeer("", 9),
		"a resource with no id": ResourcePut{Resource{Prefix: netip.MustParsePrefix("10.0.0.0/8")}},
		"a resource nowhere":    ResourcePut{Resource{ID: "n"}},
		"host bits":             RoutePut{Route{ID: "t", Prefix: netip.MustParsePrefix("10.0.0.1/8")}},
		"prefix and domains":    RoutePut{Route{ID: "t", Prefix: netip.MustParsePrefix("10.0.0.0/8"), Domains: []string{"example.com"}}},
	}
	for name, bad := range cases {
		t.Run(name, func(t *testing.T) {
			e := small(t)
			before, err := e.Position("a")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Apply(2, PeerRemove{"b"}, bad); err == nil {
				t.Error("the changes are taken")
			}
			if after, err := e.Position("a"); err != nil || after != before || e.peers["b"] == nil {
				t.Errorf("the account changed: %v, error %v", after, err)
			}
		})
	}
	if _, err := small(t).Apply(1, PeerRemove{"b"}); err == nil {
		t.Error("a serial twice is taken")
	}
}

func TestOneEncodingForAllWhoHear(t *testing.T) {
	e := small(t, simplePolicy("p", Rule{Sources: []string{"all"}, Destinations: []string{"all"}}))
	if _, err := e.Apply(2, simplePeer("e", 5), MembersAdd{"all", []string{"e"}}); err != nil {
		t.Fatal(err)
	}
	first, err := e.Deltas("a", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"b", "c", "d"} {
		other, err := e.Deltas(id, 1)
		if err != nil {
			t.Fatal(err)
		}
		same := slices.EqualFunc(first.ops, other.ops, func(a, b *op) bool { return &a.raw[0] == &b.raw[0] })
		if !same {
			t.Errorf("%s and a, in different classes, hear of one join in different bytes", id)
		}
	}
	if line := first.Line(1); len(line) > 400 {
		t.Errorf("one join is a line of %d bytes: %s", len(line), line)
	}
}

func TestLogsAreBounded(t *testing.T) {
	cfg := testConfig()
	cfg.LogEntries = 10
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Load(1, []Change{simplePeer("a", 1), simplePeer("b", 2), GroupPut{"g", []string{"a", "b"}}, simplePolicy("p", Rule{Sources: []string{"g"}, Destinations: []string{"g"}})}); err != nil {
		t.Fatal(err)
	}
	b := simplePeer("b", 2)
	for serial := int64(2); serial < 40; serial++ {
		b.Peer.Name = fmt.Sprint("b", serial)
		if _, err := e.Apply(serial, b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Deltas("a", 5); !errors.Is(err, ErrGone) {
		t.Errorf("deltas since a forgotten serial: %v", err)
	}
	if d, err := e.Deltas("a", 35); err != nil || d.Ops() != 1 {
		t.Errorf("deltas since a kept serial: %d ops, error %v", d.Ops(), err)
	}
	if _, err := e.Deltas("nobody", 35); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("deltas of an unknown peer: %v", err)
	}
}

func TestMergeTellsTheLastStateOnly(t *testing.T) {
	ids := func(ops []*op) string {
		var list []string
		for _, o := range ops {
			list = append(list, string(o.raw))
		}
		return strings.Join(list, "\n")
	}
	told := func(name string) *routeView { return newRouteView(api.CompiledRoute{Id: "t", Name: name}) }
	cases := map[string]struct {
		lists [][]*op
		want  []*op
	}{
		"came and went":            {[][]*op{{upsertOp(1, []byte("{}"), true)}, {removeOp(1)}}, nil},
		"went and came":            {[][]*op{{removeOp(1)}, {upsertOp(1, []byte("{}"), true)}}, []*op{upsertOp(1, []byte("{}"), false)}},
		"left a set and came back": {[][]*op{{patchOp("s", nil, []uint32{1, 2})}, {patchOp("s", []uint32{1}, nil)}}, []*op{patchOp("s", nil, []uint32{2})}},
		"joined a set and left":    {[][]*op{{patchOp("s", []uint32{1}, nil)}, {patchOp("s", nil, []uint32{1})}}, nil},
		"a put and a patch":        {[][]*op{{putOp("s", roaring.BitmapOf(1), true)}, {patchOp("s", []uint32{2}, []uint32{1})}}, []*op{putOp("s", roaring.BitmapOf(2), true)}},
		"a patch and a removal":    {[][]*op{{patchOp("s", []uint32{1}, nil)}, {setRemoveOp("s")}}, []*op{setRemoveOp("s")}},
		"a route that changed":     {[][]*op{{routeOp(told("a"), true)}, {routeOp(told("b"), false)}}, []*op{routeOp(told("b"), false)}},
		"a route came and went":    {[][]*op{{routeOp(told("a"), true)}, {routeRemoveOp("t")}}, nil},
		"a route went":             {[][]*op{{routeOp(told("a"), false)}, {routeRemoveOp("t")}}, []*op{routeRemoveOp("t")}},
		"a new set and a removal":  {[][]*op{{putOp("s", roaring.BitmapOf(1), true)}, {setRemoveOp("s")}}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := ids(merge(c.lists)); got != ids(c.want) {
				t.Errorf("got\n%s\nwant\n%s", got, ids(c.want))
			}
		})
	}
}

func TestSnapshotPartsAreShared(t *testing.T) {
	e := small(t, simplePolicy("p", Rule{Sources: []string{"all"}, Destinations: []string{"all"}}))
	first, errFirst := e.Snapshot(t.Context(), "a")
	second, errSecond := e.Snapshot(t.Context(), "b")
	if err := errors.Join(errFirst, errSecond); err != nil {
		t.Fatal(err)
	}
	if first.Blobs[0] != second.Blobs[0] || first.Blobs[0].Kind != api.BlobRefKindDirectory {
		t.Error("two classes that see one set have directories of their own")
	}
	if blob, err := e.Blob(t.Context(), "a", first.Blobs[1].Sha256); err != nil || blob == nil {
		t.Errorf("a part of the snapshot: %v, error %v", blob, err)
	}
	if blob, err := e.Blob(t.Context(), "a", strings.Repeat("0", 64)); err != nil || blob != nil {
		t.Errorf("no part of the snapshot: %v, error %v", blob, err)
	}
}

func TestBlobCacheIsBounded(t *testing.T) {
	cfg := testConfig()
	cfg.Blobs = NewBlobCache(2000)
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var changes []Change
	for i := range 30 {
		id := fmt.Sprint("p", i)
		changes = append(changes, simplePeer(id, uint32(i)), GroupPut{"g" + id, []string{id}},
			simplePolicy("y"+id, Rule{Sources: []string{"g" + id}, Destinations: []string{"gp0"}}))
	}
	if err := e.Load(1, changes); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		id := fmt.Sprint("p", i)
		snapshot, err := e.Snapshot(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		m, err := mapstate.Load(snapshot.Event, func(part api.BlobRef) ([]byte, error) {
			blob, err := e.Blob(t.Context(), id, part.Sha256)
			return blob.Compressed, err
		})
		if err != nil || len(m.Faults()) > 0 {
			t.Fatal(err, m.Faults())
		}
	}
	if size := cfg.Blobs.Bytes(); size > 2000 || size == 0 {
		t.Errorf("the cache holds %d bytes", size)
	}
}

func TestForgetByAge(t *testing.T) {
	e := small(t, simplePolicy("p", Rule{Sources: []string{"all"}, Destinations: []string{"all"}}))
	for serial := int64(2); serial < 10; serial++ {
		moved := simplePeer("b", 2)
		moved.Peer.Name = fmt.Sprint("b", serial)
		if _, err := e.Apply(serial, moved, GroupPut{"ga", []string{"a"}[:serial%2]}); err != nil {
			t.Fatal(err)
		}
	}
	e.Forget(5)
	for _, id := range []string{"a", "b", "c"} {
		if _, err := e.Deltas(id, 4); !errors.Is(err, ErrGone) {
			t.Errorf("deltas of %s since a forgotten serial: %v", id, err)
		}
		if d, err := e.Deltas(id, 5); err != nil || d.Empty() {
			t.Errorf("deltas of %s since a kept serial: %d ops, error %v", id, d.Ops(), err)
		}
	}
	if p := e.peers["a"]; len(p.turns) != 4 || e.history.batches[0].serial != 6 {
		t.Errorf("%d turns are kept, logs begin with %d", len(p.turns), e.history.batches[0].serial)
	}
	e.Forget(1000)
	if _, err := e.Deltas("c", 8); !errors.Is(err, ErrGone) {
		t.Error("deltas from an empty log:", err)
	}
	if d, err := e.Deltas("c", 9); err != nil || !d.Empty() {
		t.Error("deltas from the present serial:", d.Ops(), err)
	}
	if e.history.count != 0 {
		t.Errorf("%d entries are counted in empty logs", e.history.count)
	}
}

func TestRebuildTellsEverybody(t *testing.T) {
	e := small(t, simplePolicy("p", Rule{Sources: []string{"all"}, Destinations: []string{"all"}}))
	before, err := e.Apply(2, simplePeer("e", 5), MembersAdd{"all", []string{"e"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Rebuild(1, nil); err == nil {
		t.Error("the account goes back in time")
	}
	if _, err := e.Rebuild(3, []Change{MembersAdd{"nowhere", []string{"a"}}}); err == nil || e.Serial() != 2 {
		t.Error("an account that does not fit is taken")
	}
	u, err := e.Rebuild(3, []Change{simplePeer("a", 1), simplePeer("f", 2), GroupPut{"all", []string{"a", "f"}}})
	if err != nil {
		t.Fatal(err)
	}
	told := slices.Sorted(u.Peers())
	if got := strings.Join(told, " "); got != "a b c d e f" || !u.Revokes || u.Serial != 3 {
		t.Errorf("told are %s: %+v", got, u)
	}
	for range before.Peers() { // the classes of an older update are of a map that is gone
	}
	if _, err := e.Deltas("a", 2); !errors.Is(err, ErrGone) {
		t.Error("deltas across the rebuild:", err)
	}
	if _, err := e.Deltas("b", 2); !errors.Is(err, ErrUnknownPeer) {
		t.Error("deltas of a peer that is gone:", err)
	}
}

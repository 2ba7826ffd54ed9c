package netmap

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

const worldChecks = 3

// addChecks puts the posture checks of the world into an account.
func (w *world) addChecks(a *Account) {
	for _, id := range slices.Sorted(maps.Keys(w.checks)) {
		a.Checks = append(a.Checks, w.checks[id])
		a.Passing[id] = slices.Sorted(maps.Keys(w.passing[id]))
	}
}

// meets reports whether a peer meets all checks of a policy.
func (w *world) meets(p Policy, peer string) bool {
	return !slices.ContainsFunc(p.Checks, func(check string) bool { return !w.passing[check][peer] })
}

// someChecks names checks that may not exist, one of them perhaps twice.
func (w *world) someChecks() (ids []string) {
	if w.random.IntN(3) > 0 {
		return nil
	}
	for range 1 + w.random.IntN(2) {
		ids = append(ids, fmt.Sprintf("c%d", w.random.IntN(worldChecks)))
	}
	return ids
}

// posture makes, changes or removes a check, or flips bits of one.
func (w *world) posture(peer string) Change {
	id := fmt.Sprintf("c%d", w.random.IntN(worldChecks))
	pick := w.random.IntN(6)
	switch {
	case w.passing[id] == nil || pick == 0:
		c := Check{ID: id}
		for i := range w.random.IntN(3) {
			c.Processes = append(c.Processes, fmt.Sprintf("/bin/%d", i))
		}
		w.checks[id] = c
		if w.passing[id] == nil {
			w.passing[id] = map[string]bool{}
		}
		return CheckPut{c}
	case pick == 1:
		delete(w.checks, id)
		delete(w.passing, id)
		return CheckRemove{id}
	case w.peers[peer].ID == "":
		return PostureBits{Check: id}
	}
	bits := PostureBits{Check: id, Pass: w.some(w.peerIDs())}
	for _, id := range w.some(w.peerIDs()) {
		if !slices.Contains(bits.Pass, id) {
			bits.Fail = append(bits.Fail, id)
		}
	}
	for _, p := range bits.Pass {
		w.passing[id][p] = true
	}
	for _, p := range bits.Fail {
		delete(w.passing[id], p)
	}
	return bits
}

// guarded is the small network with a policy that counts for those only that meet the check c0.
func guarded(t *testing.T, rules ...Rule) *Engine {
	t.Helper()
	policy := simplePolicy("p", rules...)
	policy.Policy.Checks = []string{"c0"}
	return small(t, CheckPut{Check{ID: "c0", Processes: []string{"/usr/bin/guard"}}}, policy)
}

func applied(t *testing.T, e *Engine, changes ...Change) *Update {
	t.Helper()
	u, err := e.Apply(e.Serial()+1, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestPostureOpensAndEndsAccess(t *testing.T) {
	e := guarded(t, Rule{Sources: []string{"ga"}, Destinations: []string{"gb"}, Bidirectional: true})
	if got := sees(e); got != "" {
		t.Fatalf("before anybody was judged: %s", got)
	}
	u := applied(t, e, PostureBits{Check: "c0", Pass: []string{"a"}})
	if got := reaches(t, e); got != "ab ba" {
		t.Errorf("with a that meets the check: %s", got)
	}
	if heard := slices.Sorted(u.Peers()); !slices.Equal(slices.Compact(heard), []string{"a", "b"}) {
		t.Errorf("%v hear of it", heard)
	}
	delta, err := e.Deltas("b", e.Serial()-1)
	if err != nil || delta.Ops() != 2 { // the entry, and one patch for the set of both directions
		t.Errorf("the other side hears %s, error %v", delta.Line(0), err)
	}
	if u = applied(t, e, PostureBits{Check: "c0", Fail: []string{"a"}}); !u.Revokes || sees(e) != "" {
		t.Errorf("with a that does not meet it any more: %s, revokes %t", sees(e), u.Revokes)
	}
	if u = applied(t, e, PostureBits{Check: "c0", Fail: []string{"a"}}); !u.Empty() {
		t.Error("a bit that stays is told")
	}
}

// Destinations are not checked, and who meets the check opens nothing for the rest of the group.
func TestPostureIsThatOfTheSource(t *testing.T) {
	e := guarded(t, Rule{Sources: []string{"ga", "gc"}, Destinations: []string{"gb"}})
	applied(t, e, PostureBits{Check: "c0", Pass: []string{"a"}})
	if got := sees(e); got != "ab ba" {
		t.Errorf("with a that meets the check: %s", got)
	}
	applied(t, e, PostureBits{Check: "c0", Pass: []string{"b"}, Fail: []string{"a"}})
	if got := sees(e); got != "" {
		t.Errorf("with b that meets the check: %s", got)
	}
}

func TestPostureOfASinglePeer(t *testing.T) {
	e := guarded(t, Rule{SourcePeer: "a", Destinations: []string{"gb"}})
	applied(t, e, PostureBits{Check: "c0", Pass: []string{"a", "c"}})
	if got := reaches(t, e); got != "ab" {
		t.Error(got)
	}
}

// A policy counts for those that meet all of its checks.
func TestAllChecksOfAPolicyCount(t *testing.T) {
	e := guarded(t)
	policy := simplePolicy("p", Rule{Sources: []string{"all"}, Destinations: []string{"gd"}})
	policy.Policy.Checks = []string{"c1", "c0", "c1"}
	applied(t, e, CheckPut{Check{ID: "c1"}}, policy, PostureBits{Check: "c0", Pass: []string{"a", "b"}}, PostureBits{Check: "c1", Pass: []string{"b", "c"}})
	if got := reaches(t, e); got != "bd" {
		t.Error(got)
	}
}

// Who fails a check must not gain by it: a drop counts for every source.
func TestDropsDoNotAskForPosture(t *testing.T) {
	e := guarded(t, Rule{Sources: []string{"ga"}, Destinations: []string{"gb"}, Drop: true})
	applied(t, e, simplePolicy("q", Rule{Sources: []string{"ga"}, Destinations: []string{"gb", "gc"}}))
	if got := sees(e); got != "ac ca" {
		t.Error(got)
	}
}

func asked(e *Engine, id string) []string { return e.peers[id].self.Processes }

// Machines are asked about the programs of the checks between them and a rule, and about nothing else.
func TestOnlySourcesAreAskedAboutPrograms(t *testing.T) {
	e := guarded(t, Rule{Sources: []string{"ga"}, Destinations: []string{"gb"}})
	if got := asked(e, "a"); !slices.Equal(got, []string{"/usr/bin/guard"}) {
		t.Errorf("the source is asked about %v", got)
	}
	if asked(e, "b") != nil || asked(e, "c") != nil {
		t.Errorf("others are asked about %v and %v", asked(e, "b"), asked(e, "c"))
	}
	if err := e.Offer("a", 0); err != nil || len(asked(e, "a")) != 1 {
		t.Errorf("after it came back in another version it is asked about %v, %v", asked(e, "a"), err)
	}
	if err := e.Offer("a", AllFeatures); err != nil {
		t.Fatal(err)
	}
	if u := applied(t, e, CheckPut{Check{ID: "c0", Processes: []string{"/bin/a", "/bin/b"}}}); !slices.Equal(slices.Collect(u.Peers()), []string{"a"}) {
		t.Errorf("%v hear of other programs", slices.Collect(u.Peers()))
	}
	applied(t, e, MembersRemove{"ga", []string{"a"}}, MembersAdd{"ga", []string{"c"}})
	if asked(e, "a") != nil || len(asked(e, "c")) != 2 {
		t.Errorf("after a move a is asked about %v, c about %v", asked(e, "a"), asked(e, "c"))
	}
	applied(t, e, PolicyRemove{"p"})
	if asked(e, "c") != nil {
		t.Errorf("without the policy c is asked about %v", asked(e, "c"))
	}
	applied(t, e, CheckRemove{"c0"})
	if len(e.checks) != 0 || len(e.bases) != 5 {
		t.Errorf("%d checks and %d bases are kept", len(e.checks), len(e.bases))
	}
}

func TestPostureThatDoesNotFitIsRefused(t *testing.T) {
	e := small(t)
	for _, changes := range [][]Change{
		{PostureBits{Check: "c0", Pass: []string{"a"}}},
		{PostureBits{Check: "c0"}},
		{CheckPut{Check{ID: "c0"}}, PostureBits{Check: "c0", Fail: []string{"nobody"}}},
		{CheckPut{Check{ID: "c0"}}, CheckRemove{"c0"}, PostureBits{Check: "c0", Fail: []string{"a"}}},
	} {
		if _, err := e.Apply(e.Serial()+1, changes...); err == nil {
			t.Errorf("%+v is taken", changes)
		}
	}
}

// BenchmarkPosture measures one peer that meets a check and then does not, in a network in which every fourth policy has
// the check.
func BenchmarkPosture(b *testing.B) {
	for _, s := range shapes {
		b.Run(fmt.Sprint(s.peers), func(b *testing.B) {
			e, _ := s.engine(b)
			serial := int64(1)
			apply := func(changes ...Change) {
				serial++
				if _, err := e.Apply(serial, changes...); err != nil {
					b.Fatal(err)
				}
			}
			apply(CheckPut{Check{ID: "c0"}})
			random := rand.New(rand.NewPCG(9, 9))
			for i := 0; i < s.policies; i += 4 {
				policy := s.policy(random, i)
				policy.Checks = []string{"c0"}
				apply(PolicyPut{policy})
			}
			for n := range s.peers {
				if n%3 > 0 {
					apply(PostureBits{Check: "c0", Pass: []string{s.peer(n).ID}})
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				bits := PostureBits{Check: "c0", Pass: []string{s.peer(i / 2 % s.peers).ID}}
				if i%2 > 0 {
					bits.Pass, bits.Fail = nil, bits.Pass
				}
				apply(bits)
			}
		})
	}
}

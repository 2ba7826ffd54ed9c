package firewall

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring"
	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/table"
)

// TestLayoutsMadeOutOfOthers changes a config at random. What is made out of the state before must be what is made out of
// nothing, and the steps between two layouts must lead from one to the other.
func TestLayoutsMadeOutOfOthers(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 2))
		c := twoPeers()
		var former layout
		judge := &ruleset{}
		for range 40 {
			for range 1 + random.IntN(4) {
				if next := altered(c, random); apart(next) {
					c = next
				}
			}
			next, err := newLayout(c, former)
			if err != nil {
				t.Fatal(err)
			}
			fresh := layoutOf(t, c)
			if !maps.EqualFunc(textOf(next), textOf(fresh), slices.Equal) || !maps.EqualFunc(next.rules, fresh.rules, equalRules) || next.frame != fresh.frame {
				t.Fatalf("seed %d: the layout is %v, want %v", seed, textOf(next), textOf(fresh))
			}
			if former.shape == nil {
				former.shape = &shape{}
			}
			if diff := cmp.Diff(textOf(next), stepped(textOf(former), diff(former, next))); diff != "" {
				t.Fatalf("seed %d: the step leads elsewhere: %s", seed, diff)
			}
			if judge, err = compile(c, newLearned(), judge); err != nil {
				t.Fatal(err)
			}
			want := map[netip.Addr]uint32{}
			for n, peer := range c.Peers.All() {
				want[peer.IPv4], want[peer.IPv6] = n, n
			}
			delete(want, netip.Addr{})
			got := map[netip.Addr]uint32{}
			for key, n := range judge.peers.ordinals.All() {
				got[key.addr()] = n
			}
			if !maps.Equal(want, got) {
				t.Fatalf("seed %d: the filter knows %v, want %v", seed, got, want)
			}
			former = next
		}
	}
}

// apart reports whether no two peers have one address.
func apart(c Config) bool {
	met := map[netip.Addr]bool{}
	for peer := range c.Peers.Values() {
		for _, addr := range []netip.Addr{peer.IPv4, peer.IPv6} {
			if met[addr] && addr.IsValid() {
				return false
			}
			met[addr] = true
		}
	}
	return true
}

func equalRules(a, b hostRule) bool { return a.hash() == b.hash() }

// textOf is the content of all sets.
func textOf(l layout) map[string][]string {
	text := map[string][]string{}
	for name, set := range l.sets {
		list := []string{fmt.Sprint(set.kind)}
		for key := range l.members[name].Keys() {
			list = append(list, key.addr().String())
		}
		for _, r := range set.ranges {
			list = append(list, r.String())
		}
		slices.Sort(list)
		text[name] = list
	}
	return text
}

// stepped applies a step to the content of sets.
func stepped(text map[string][]string, step change) map[string][]string {
	for _, name := range step.goneSets {
		delete(text, name)
	}
	for _, name := range step.newSets {
		text[name] = []string{"0"}
	}
	list := func(e elements) (list []string) {
		for _, member := range e.members {
			list = append(list, member.String())
		}
		return list
	}
	for name, gone := range step.remove {
		text[name] = slices.DeleteFunc(text[name], func(s string) bool { return slices.Contains(list(gone), s) })
	}
	for name, come := range step.add {
		text[name] = append(text[name], list(come)...)
		slices.Sort(text[name])
	}
	return text
}

// altered is c with one thing else: a peer that comes, goes, or takes addresses over, a member, a set, a rule.
func altered(c Config, random *rand.Rand) Config {
	n, id := 2+random.Uint32N(30), fmt.Sprint("s", random.IntN(3))
	switch random.IntN(7) {
	case 0, 1:
		c.Peers = c.Peers.With(n, addressOf(n))
	case 2:
		// It takes the addresses of another over.
		other := 2 + random.Uint32N(30)
		if from, known := c.Peers.Get(other); known && n != other {
			c.Peers = c.Peers.With(other, Addresses{IPv6: c.Peers.At(n).IPv6}).With(n, from)
		}
	case 3:
		c.Peers = c.Peers.Without(n)
	case 4:
		set := roaring.New()
		if former := c.Sets.At(id); former != nil {
			set = former.Clone()
		}
		if !set.CheckedAdd(n) {
			set.Remove(n)
		}
		c.Sets = c.Sets.With(id, set)
	case 5:
		c.Sets = c.Sets.Without(id)
	case 6:
		c.Rules = slices.Clone(c.Rules)
		rule := api.CompiledRule{
			Id: id, Direction: api.CompiledRuleDirectionBoth, Source: id, Destination: fmt.Sprint("s", random.IntN(3)),
			Action: api.CompiledRuleActionAccept, Protocol: api.CompiledRuleProtocolAll,
		}
		if at := slices.IndexFunc(c.Rules, func(r api.CompiledRule) bool { return r.Id == id }); at >= 0 {
			c.Rules = slices.Delete(c.Rules, at, at+1)
		} else {
			c.Rules = append(c.Rules, rule)
		}
	}
	return c
}

// TestOneMoreMemberIsOneStep holds that a peer that joins a large set is one element in each family, and all of the change.
func TestOneMoreMemberIsOneStep(t *testing.T) {
	c := twoPeers(in("all"))
	everybody := roaring.New()
	peers := map[uint32]Addresses{1: here, 2: there}
	for n := uint32(2); n < 1000; n++ {
		everybody.Add(n)
		peers[n] = addressOf(n)
	}
	c.Peers, c.Sets = table.Of(peers), c.Sets.With("them", everybody)
	before := layoutOf(t, c)
	more := everybody.Clone()
	more.Add(1000)
	c.Peers, c.Sets = c.Peers.With(1000, addressOf(1000)), c.Sets.With("them", more)
	after, err := newLayout(c, before)
	if err != nil {
		t.Fatal(err)
	}
	step := diff(before, after)
	for name, members := range step.add {
		if len(members.members) != 1 {
			t.Errorf("%s gets %v", name, members)
		}
	}
	step.add = nil
	if !step.empty() || before.shape != after.shape {
		t.Errorf("the change is more than two elements: %+v", step)
	}
}

package table

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// TestLikeAMap edits a table and a map in the same way, and keeps former states: none of them may change, and Diff must lead
// from each to each.
func TestLikeAMap(t *testing.T) {
	type state struct {
		table Table[int, int]
		plain map[int]int
	}
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 1))
		span := 1 + random.IntN(1500)
		states := []state{{plain: map[int]int{}}}
		for range 6 {
			last := states[len(states)-1]
			edit, plain := last.table.Edit(), maps.Clone(last.plain)
			for range random.IntN(2 * span) {
				key := random.IntN(span)
				if random.IntN(3) == 0 {
					edit.Delete(key)
					delete(plain, key)
				} else {
					value := random.IntN(3)
					edit.Set(key, value)
					plain[key] = value
				}
			}
			states = append(states, state{edit.Table(), plain})
		}
		for i, s := range states {
			if got := maps.Collect(s.table.All()); !maps.Equal(s.plain, got) || s.table.Len() != len(s.plain) {
				t.Fatalf("seed %d, state %d has %d entries: %v", seed, i, s.table.Len(), got)
			}
			for key := range span {
				got, ok := s.table.Get(key)
				if want, known := s.plain[key]; ok != known || got != want {
					t.Fatalf("seed %d, state %d: %d is %d, %v; want %d, %v", seed, i, key, got, ok, want, known)
				}
			}
			other := states[random.IntN(len(states))]
			if got := patched(t, s.plain, Diff(s.table, other.table, Equal)); !maps.Equal(other.plain, got) {
				t.Fatalf("seed %d, the difference from state %d leads to %v", seed, i, got)
			}
		}
	}
}

// patched applies a difference to a copy of a map, and checks that each step is one.
func patched(t *testing.T, from map[int]int, steps func(func(int, Change[int]) bool)) map[int]int {
	t.Helper()
	to := maps.Clone(from)
	for key, step := range steps {
		was, known := from[key]
		if known != (step.Was != nil) || known && was != *step.Was {
			t.Fatalf("%d was %d, %v before the change", key, was, known)
		}
		switch {
		case step.Is == nil:
			delete(to, key)
		case known && was == *step.Is:
			t.Fatalf("%d has not changed", key)
		default:
			to[key] = *step.Is
		}
	}
	return to
}

// TestEntriesOfOneHash holds that entries which no bits of a hash tell apart are kept.
func TestEntriesOfOneHash(t *testing.T) {
	var edit Edit[string, int]
	leaf := edit.own(nil)
	for i := range 3 * leafSize {
		leaf = edit.set(leaf, 0, entry[string, int]{fmt.Sprint(i), i}, deepest)
	}
	if leaf.branches != nil || len(leaf.entries) != 3*leafSize {
		t.Errorf("%d entries", len(leaf.entries))
	}
}

// TestDiffLooksAtTheChangeOnly counts the values that a difference compares.
func TestDiffLooksAtTheChangeOnly(t *testing.T) {
	var edit Edit[int, int]
	for i := range 10000 {
		edit.Set(i, i)
	}
	before := edit.Table()
	after := before.With(10000, 0).Without(77)
	compared := 0
	steps := 0
	for range Diff(before, after, func(a, b int) bool { compared++; return a == b }) {
		steps++
	}
	if steps != 2 || compared > 4*leafSize {
		t.Errorf("%d steps, %d values compared", steps, compared)
	}
	if !before.Same(edit.Table()) || before.Same(after) {
		t.Error("tables are not told apart")
	}
}

func BenchmarkChangeAndDiff(b *testing.B) {
	var edit Edit[int, int]
	for i := range 10000 {
		edit.Set(i, i)
	}
	t := edit.Table()
	for i := 10000; b.Loop(); i++ {
		next := t.With(i, i)
		for range Diff(t, next, Equal) {
		}
	}
}

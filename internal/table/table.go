// Package table keeps large tables that change little by little.
//
// The network map has an entry for each machine, and what follows from it has some more. A Table is a value: who keeps one
// may hand it on, and it never changes. Another one is made out of it by an Edit, and both share what they have in common.
// So a copy costs nothing, and Diff finds what changed between two tables in the time that the change takes, whatever
// their size. Agents and the control plane's tests keep maps with it; that is why it is shared.
//
//	Table ──Edit──> Set, Delete ──Table()──> Table
//	  └───────────────── Diff ──────────────────┘ entries that came, went or are other
//
// It is a hash trie: a leaf holds few entries, a leaf that grows becomes a branch of leaves by the next bits of the hash.
package table

import (
	"hash/maphash"
	"iter"
	"slices"
)

// Choices of ours: a change copies a branch of 256 bytes for each level, and one leaf. Ten thousand entries have two levels.
const (
	bits     = 5
	width    = 1 << bits
	leafSize = 16
	deepest  = 64 / bits // there a hash has no bits left, and a leaf grows without end
)

var seed = maphash.MakeSeed()

// A Table holds values by key. The zero value is empty. It does not change, and is safe for concurrent use.
type Table[K comparable, V any] struct {
	root  *node[K, V] // nil when empty
	count int
}

// A node is a branch or a leaf. Only the Edit that made it may change it.
type node[K comparable, V any] struct {
	maker    *mark
	branches *[width]*node[K, V] // nil in a leaf
	entries  []entry[K, V]       // of a leaf
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// A mark is an Edit, for the nodes that it made; it has a size so that no two are one.
type mark struct{ _ byte }

// Of returns a table with the content of a map.
func Of[K comparable, V any](m map[K]V) Table[K, V] {
	var edit Edit[K, V]
	for key, value := range m {
		edit.Set(key, value)
	}
	return edit.Table()
}

// Len returns the number of entries.
func (t Table[K, V]) Len() int { return t.count }

// Get returns the value of a key.
func (t Table[K, V]) Get(key K) (value V, ok bool) { return t.get(key, 0) }

// get looks in a table whose root stands at a depth.
func (t Table[K, V]) get(key K, depth int) (value V, ok bool) {
	if t.root == nil {
		return value, false
	}
	hash := maphash.Comparable(seed, key)
	n := t.root
	for ; n != nil; depth++ {
		if n.branches == nil {
			if at := n.find(key); at >= 0 {
				return n.entries[at].value, true
			}
			return value, false
		}
		n = n.branches[part(hash, depth)]
	}
	return value, false
}

// At returns the value of a key, or the zero value.
func (t Table[K, V]) At(key K) V {
	value, _ := t.Get(key)
	return value
}

// Has reports whether there is an entry.
func (t Table[K, V]) Has(key K) bool {
	_, ok := t.Get(key)
	return ok
}

// All yields the entries in no order.
func (t Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.root.each(yield) }
}

// Keys yields the keys in no order.
func (t Table[K, V]) Keys() iter.Seq[K] {
	return func(yield func(K) bool) { t.root.each(func(key K, _ V) bool { return yield(key) }) }
}

// Values yields the values in no order.
func (t Table[K, V]) Values() iter.Seq[V] {
	return func(yield func(V) bool) { t.root.each(func(_ K, value V) bool { return yield(value) }) }
}

// Same reports whether two tables are one, without looking at the entries: false also for tables that were made apart and
// hold the same.
func (t Table[K, V]) Same(o Table[K, V]) bool { return t.root == o.root }

// With returns a table with one entry more, or another value for it.
func (t Table[K, V]) With(key K, value V) Table[K, V] {
	edit := t.Edit()
	edit.Set(key, value)
	return edit.Table()
}

// Without returns a table that lacks an entry.
func (t Table[K, V]) Without(key K) Table[K, V] {
	edit := t.Edit()
	edit.Delete(key)
	return edit.Table()
}

func part(hash uint64, depth int) int { return int(hash>>(depth*bits)) & (width - 1) }

func (n *node[K, V]) find(key K) int {
	return slices.IndexFunc(n.entries, func(e entry[K, V]) bool { return e.key == key })
}

func (n *node[K, V]) each(yield func(K, V) bool) bool {
	switch {
	case n == nil:
		return true
	case n.branches == nil:
		for i := range n.entries {
			if !yield(n.entries[i].key, n.entries[i].value) {
				return false
			}
		}
		return true
	}
	for _, below := range n.branches {
		if !below.each(yield) {
			return false
		}
	}
	return true
}

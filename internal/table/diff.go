package table

import "iter"

// A Change is what happened to one entry. At least one of Was and Is is not nil.
type Change[V any] struct {
	Was, Is *V // nil: there was, or is, no entry
}

// Diff yields the entries by which two tables differ, in no order; same says which values are no change. What both tables
// share is not looked at.
func Diff[K comparable, V any](from, to Table[K, V], same func(a, b V) bool) iter.Seq2[K, Change[V]] {
	return func(yield func(K, Change[V]) bool) { diff(from.root, to.root, 0, same, yield) }
}

// Equal is for Diff of values that can be compared.
func Equal[V comparable](a, b V) bool { return a == b }

func diff[K comparable, V any](from, to *node[K, V], depth int, same func(a, b V) bool, yield func(K, Change[V]) bool) bool {
	switch {
	case from == to:
		return true
	case from.branched() && to.branched():
		for i := range width {
			if !diff(from.branches[i], to.branches[i], depth+1, same, yield) {
				return false
			}
		}
		return true
	}
	// One of them is a leaf, or nothing: the other holds little more, unless much has changed.
	before, after := Table[K, V]{root: from}, Table[K, V]{root: to}
	for key, was := range before.All() {
		is, stays := after.get(key, depth)
		switch {
		case !stays:
			if !yield(key, Change[V]{Was: &was}) {
				return false
			}
		case !same(was, is):
			if !yield(key, Change[V]{Was: &was, Is: &is}) {
				return false
			}
		}
	}
	for key, is := range after.All() {
		if _, stayed := before.get(key, depth); !stayed && !yield(key, Change[V]{Is: &is}) {
			return false
		}
	}
	return true
}

func (n *node[K, V]) branched() bool { return n != nil && n.branches != nil }

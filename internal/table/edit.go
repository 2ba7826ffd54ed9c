package table

import (
	"hash/maphash"
	"iter"
	"slices"
)

// An Edit makes a table out of another. The zero value begins with an empty one. It is not safe for concurrent use.
type Edit[K comparable, V any] struct {
	table Table[K, V]
	mark  *mark // on the nodes that nobody else has; nil before there is one
}

// Edit begins with the entries of t.
func (t Table[K, V]) Edit() *Edit[K, V] { return &Edit[K, V]{table: t} }

// Table returns what the edit has made. The edit may go on; the table stays as it is.
func (e *Edit[K, V]) Table() Table[K, V] {
	e.mark = nil
	return e.table
}

// Get returns the value of a key as it is now.
func (e *Edit[K, V]) Get(key K) (V, bool) { return e.table.Get(key) }

// Set gives a key its value.
func (e *Edit[K, V]) Set(key K, value V) {
	e.table.root = e.set(e.table.root, maphash.Comparable(seed, key), entry[K, V]{key, value}, 0)
}

// Delete takes an entry out, if there is one.
func (e *Edit[K, V]) Delete(key K) {
	if e.table.Has(key) {
		e.table.root = e.delete(e.table.root, maphash.Comparable(seed, key), key, 0)
		e.table.count--
	}
}

// own returns n, or a copy of it that the edit may change.
func (e *Edit[K, V]) own(n *node[K, V]) *node[K, V] {
	if e.mark == nil {
		e.mark = new(mark)
	}
	switch {
	case n == nil:
		return &node[K, V]{maker: e.mark}
	case n.maker == e.mark:
		return n
	case n.branches == nil:
		return &node[K, V]{maker: e.mark, entries: slices.Clone(n.entries)}
	}
	branches := *n.branches
	return &node[K, V]{maker: e.mark, branches: &branches}
}

func (e *Edit[K, V]) set(n *node[K, V], hash uint64, put entry[K, V], depth int) *node[K, V] {
	n = e.own(n)
	if n.branches != nil {
		below := &n.branches[part(hash, depth)]
		*below = e.set(*below, hash, put, depth+1)
		return n
	}
	if at := n.find(put.key); at >= 0 {
		n.entries[at] = put
		return n
	}
	e.table.count++
	n.entries = append(n.entries, put)
	if len(n.entries) > leafSize && depth < deepest {
		e.split(n, depth)
	}
	return n
}

// split makes a branch of a leaf.
func (e *Edit[K, V]) split(n *node[K, V], depth int) {
	n.branches = new([width]*node[K, V])
	for _, each := range n.entries {
		below := &n.branches[part(maphash.Comparable(seed, each.key), depth)]
		*below = e.own(*below)
		(*below).entries = append((*below).entries, each)
	}
	n.entries = nil
}

// delete takes out what is there. A branch stays one until nothing is below it.
func (e *Edit[K, V]) delete(n *node[K, V], hash uint64, key K, depth int) *node[K, V] {
	n = e.own(n)
	if n.branches == nil {
		at := n.find(key)
		n.entries = slices.Delete(n.entries, at, at+1)
		if len(n.entries) == 0 {
			return nil
		}
		return n
	}
	below := &n.branches[part(hash, depth)]
	*below = e.delete(*below, hash, key, depth+1)
	for _, left := range n.branches {
		if left != nil {
			return n
		}
	}
	return nil
}

// All yields the entries as they are now, in no order. They must not be edited meanwhile.
func (e *Edit[K, V]) All() iter.Seq2[K, V] { return e.table.All() }

package server

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
)

// tableBuckets is a power of two near DefaultAllocations, so buckets are short.
const tableBuckets = 1 << 12

// A table finds the allocation of a client for each packet: without a lock,
// without allocating. Buckets are replaced, never changed.
type table struct {
	seed    maphash.Seed
	mu      sync.Mutex // of writers
	buckets [tableBuckets]atomic.Pointer[[]*allocation]
}

func newTable() *table { return &table{seed: maphash.MakeSeed()} }

func (t *table) bucket(tuple fiveTuple) *atomic.Pointer[[]*allocation] {
	return &t.buckets[maphash.Comparable(t.seed, tuple)%tableBuckets]
}

// find returns the allocation of tuple, nil when there is none.
func (t *table) find(tuple fiveTuple) *allocation {
	bucket := t.bucket(tuple).Load()
	if bucket == nil {
		return nil
	}
	for _, a := range *bucket {
		if a.tuple == tuple {
			return a
		}
	}
	return nil
}

func (t *table) put(a *allocation) {
	t.change(a.tuple, func(bucket []*allocation) []*allocation { return append(bucket, a) })
}

func (t *table) remove(a *allocation) {
	t.change(a.tuple, func(bucket []*allocation) []*allocation {
		return slices.DeleteFunc(bucket, func(other *allocation) bool { return other == a })
	})
}

func (t *table) change(tuple fiveTuple, change func([]*allocation) []*allocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.bucket(tuple)
	var next []*allocation
	if bucket := at.Load(); bucket != nil {
		next = slices.Clone(*bucket)
	}
	next = change(next)
	at.Store(&next)
}

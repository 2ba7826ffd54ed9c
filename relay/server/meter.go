package server

import (
	"sync/atomic"
	"time"
)

// A meter limits the bandwidth of one peer over all its allocations: a leaky
// bucket of one second, kept as the instant at which it is empty (GCRA).
type meter struct {
	rate int64 // bytes per second; 0: no limit
	due  atomic.Int64
}

// spend takes bytes and reports whether there was room for them.
func (m *meter) spend(bytes int, at instant) bool {
	if m.rate == 0 {
		return true
	}
	cost := int64(bytes) * int64(time.Second) / m.rate
	for {
		due := m.due.Load()
		next := max(due, at) + cost
		if next-at > int64(time.Second) {
			return false
		}
		if m.due.CompareAndSwap(due, next) {
			return true
		}
	}
}

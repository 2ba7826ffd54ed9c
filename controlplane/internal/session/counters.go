package session

import "sync/atomic"

// counters count since the start of the instance.
type counters struct {
	opened, replaced, resumed, snapshots, deltas, signals, lagged atomic.Int64
}

// Stats are the figures of an instance.
type Stats struct {
	// Connected is how many streams there are now.
	Connected int
	// The rest counts since the start: streams that began and that replaced another of their peer, maps that went on
	// by deltas and that were sent whole, deltas and signals sent, streams that ended because their agent read too
	// slowly.
	Opened, Replaced, Resumed, Snapshots, Deltas, Signals, Lagged int64
}

// Stats returns the figures at this moment.
func (s *Sessions) Stats() Stats {
	s.mu.Lock()
	connected := len(s.streams)
	s.mu.Unlock()
	c := &s.counters
	return Stats{
		Connected: connected, Opened: c.opened.Load(), Replaced: c.replaced.Load(), Resumed: c.resumed.Load(),
		Snapshots: c.snapshots.Load(), Deltas: c.deltas.Load(), Signals: c.signals.Load(), Lagged: c.lagged.Load(),
	}
}

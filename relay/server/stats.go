package server

import "sync/atomic"

// Stats are the relay's counters since it started, and its gauges now.
type Stats struct {
	// Allocations is the number of allocations that exist now.
	Allocations int64
	// AllocationsMade counts allocations since the start.
	AllocationsMade uint64

	// RefusedCredentials counts requests with a wrong, foreign or malformed
	// credential; RefusedExpired those whose credential was over.
	RefusedCredentials, RefusedExpired uint64
	// RefusedPeers counts permissions and channels to addresses that the relay
	// does not reach for anybody.
	RefusedPeers uint64
	// UnansweredStrangers counts requests without credential, from an address
	// that had used up its answers.
	UnansweredStrangers uint64
	// RefusedStrangers counts connections that were closed at once, since too
	// many had no allocation yet: of all, or of their address.
	RefusedStrangers uint64

	// PacketsToPeers, BytesToPeers count payload that left an allocation;
	// PacketsFromPeers, BytesFromPeers payload that arrived at one.
	PacketsToPeers, BytesToPeers     uint64
	PacketsFromPeers, BytesFromPeers uint64
	// DroppedPackets counts payload that was not delivered: without channel or
	// permission, between accounts, to a port of the relay that is no
	// allocation, or beyond the queue of a slow stream or socket.
	DroppedPackets uint64
	// Beyond counts what was beyond each quota: requests that were refused, and
	// packets that were dropped for the bandwidth.
	Beyond [limits]uint64
}

// counters is Stats while it is being counted.
type counters struct {
	allocations         atomic.Int64
	allocationsMade     atomic.Uint64
	refusedCredentials  atomic.Uint64
	refusedExpired      atomic.Uint64
	refusedPeers        atomic.Uint64
	unansweredStrangers atomic.Uint64
	refusedStrangers    atomic.Uint64
	packetsToPeers      atomic.Uint64
	bytesToPeers        atomic.Uint64
	packetsFromPeers    atomic.Uint64
	bytesFromPeers      atomic.Uint64
	droppedPackets      atomic.Uint64
	beyond              [limits]atomic.Uint64
}

func (c *counters) read() Stats {
	s := Stats{
		Allocations:         c.allocations.Load(),
		AllocationsMade:     c.allocationsMade.Load(),
		RefusedCredentials:  c.refusedCredentials.Load(),
		RefusedExpired:      c.refusedExpired.Load(),
		RefusedPeers:        c.refusedPeers.Load(),
		UnansweredStrangers: c.unansweredStrangers.Load(),
		RefusedStrangers:    c.refusedStrangers.Load(),
		PacketsToPeers:      c.packetsToPeers.Load(),
		BytesToPeers:        c.bytesToPeers.Load(),
		PacketsFromPeers:    c.packetsFromPeers.Load(),
		BytesFromPeers:      c.bytesFromPeers.Load(),
		DroppedPackets:      c.droppedPackets.Load(),
	}
	for i := range c.beyond {
		s.Beyond[i] = c.beyond[i].Load()
	}
	return s
}

// add counts what one batch has moved.
func (c *counters) add(t *tally) {
	for _, one := range []struct {
		to *atomic.Uint64
		n  uint64
	}{
		{&c.packetsToPeers, t.packetsToPeers},
		{&c.bytesToPeers, t.bytesToPeers},
		{&c.packetsFromPeers, t.packetsFromPeers},
		{&c.bytesFromPeers, t.bytesFromPeers},
		{&c.droppedPackets, t.dropped},
	} {
		if one.n > 0 {
			one.to.Add(one.n)
		}
	}
}

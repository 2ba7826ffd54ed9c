package engine

import (
	"runtime"
	"runtime/debug"
	"time"
)

// Choices of ours.
const (
	// What starting, a map or traffic took is given back to the system once the machine
	// rests. The first time comes spareAfter after a map, later ones are spareInterval
	// apart. It costs two garbage collections.
	spareAfter    = 3 * time.Second
	spareInterval = time.Minute

	// spareLeast is what giving back is worth it for, in bytes.
	spareLeast = 1 << 20

	// spareTraffic is what a machine carries at most in spareInterval that rests, in
	// bytes: 9 Mbit/s. What WireGuard keeps ready for more would be asked for again at once.
	spareTraffic = 64 << 20
)

// A spare knows when this process holds memory of the system that it does not need. The
// runtime keeps for itself what traffic took, several times what the agent needs: it
// plans for as much again, since buffers in the pools of the WireGuard device look alive.
type spare struct {
	held    uint64 // bytes, after it was given back last; 0: never
	carried uint64 // bytes, when that was asked last
}

// grown reports whether the process holds so much more than it did that giving back is
// worth it.
func (s *spare) grown(held uint64) bool { return s.held == 0 || held >= s.held+spareLeast }

// rests reports whether the machine has carried little since it was asked last.
func (s *spare) rests(carried uint64) bool {
	moved := carried - min(s.carried, carried) // less than before: another device
	s.carried = carried
	return moved <= spareTraffic
}

func (s *spare) giveBack() {
	runtime.GC() // what is in pools goes at the second collection
	debug.FreeOSMemory()
	s.held = holding()
}

// spared gives back what was taken of the system and is not needed now.
func (l *link) spared(s *spare) {
	if !s.grown(holding()) {
		return
	}
	stats, err := l.machine.Device.Stats()
	if err != nil {
		l.log.Warn("traffic not known, memory kept", "error", err)
		return
	}
	var carried uint64
	for _, peer := range stats {
		carried += peer.ReceivedBytes + peer.SentBytes
	}
	if s.rests(carried) || s.held == 0 {
		s.giveBack()
	}
}

// holding is the memory that the runtime has of the system, in bytes.
func holding() uint64 {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return memory.Sys - memory.HeapReleased
}

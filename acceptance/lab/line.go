package lab

import (
	"cmp"
	"container/heap"
	"math/rand/v2"
	"time"
)

// A Line says what a long way does to packets, in each direction of its own.
// The zero Line does nothing.
type Line struct {
	// Delay is the time that each packet takes.
	Delay time.Duration
	// Jitter is the most that is added to Delay or taken from it, evenly spread.
	// Packets overtake each other by it only where Reorder is set.
	Jitter  time.Duration
	Reorder bool
	// Loss is the share of packets that vanish, 0 to 1; Burst is how many vanish
	// in a row on average, 0 and 1 for losses that know nothing of each other.
	Loss  float64
	Burst float64
	// Rate is in bits per second; 0 is without limit. What waits longer than
	// Queue for its turn is dropped; 0 stands for 100 ms.
	Rate  int64
	Queue time.Duration
}

// A lane is one direction of a Line: it knows what packets are under way.
//
//	arrives ──> lost? ──> waits for its turn (rate) ──> delay ± jitter ──> leaves
type lane struct {
	Line
	random *rand.Rand

	dropping bool      // inside a burst of losses
	free     time.Time // when the last packet has left the bottleneck
	last     time.Time // when the packet before leaves the lane
	count    uint64
	dropped  uint64
	waiting  flights
}

// A flight is one packet under way.
type flight struct {
	due    time.Time
	n      uint64 // in order of arrival, among equals
	packet []byte
}

// enter takes a packet up, or loses it.
func (l *lane) enter(now time.Time, packet []byte) {
	if l.lost() {
		l.dropped++
		return
	}
	due := now
	if l.Rate > 0 {
		if l.free.Before(now) {
			l.free = now
		}
		if l.free.Sub(now) > cmp.Or(l.Queue, 100*time.Millisecond) {
			l.dropped++
			return
		}
		l.free = l.free.Add(time.Duration(int64(len(packet)) * 8 * int64(time.Second) / l.Rate))
		due = l.free
	}
	due = due.Add(l.Delay)
	if l.Jitter > 0 {
		due = due.Add(time.Duration(l.random.Int64N(2*int64(l.Jitter)+1)) - l.Jitter)
	}
	if !l.Reorder && due.Before(l.last) {
		due = l.last
	}
	l.last, l.count = due, l.count+1
	heap.Push(&l.waiting, flight{due, l.count, packet})
}

// lost decides about one packet. Bursts follow the model of Gilbert: from a
// good state every packet passes, from a bad one none does.
func (l *lane) lost() bool {
	if l.Loss <= 0 {
		return false
	}
	if l.Burst <= 1 {
		return l.random.Float64() < l.Loss
	}
	leave := 1 / l.Burst
	enter := min(1, leave*l.Loss/max(1-l.Loss, 1e-9))
	if l.dropping {
		l.dropping = l.random.Float64() >= leave
	} else {
		l.dropping = l.random.Float64() < enter
	}
	return l.dropping
}

// next is when the first packet leaves; ok is false when none is under way.
func (l *lane) next() (due time.Time, ok bool) {
	if len(l.waiting) == 0 {
		return due, false
	}
	return l.waiting[0].due, true
}

// leave returns the next packet that is due; nil when none is.
func (l *lane) leave(now time.Time) []byte {
	if len(l.waiting) == 0 || l.waiting[0].due.After(now) {
		return nil
	}
	return heap.Pop(&l.waiting).(flight).packet
}

// flights is a heap by the time at which packets leave.
type flights []flight

func (f flights) Len() int { return len(f) }

func (f flights) Less(i, j int) bool {
	if !f[i].due.Equal(f[j].due) {
		return f[i].due.Before(f[j].due)
	}
	return f[i].n < f[j].n
}

func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

func (f *flights) Push(x any) { *f = append(*f, x.(flight)) }

func (f *flights) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	(*f)[last] = flight{}
	*f = (*f)[:last]
	return x
}

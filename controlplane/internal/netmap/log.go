package netmap

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/wattlenet/wattle/internal/mapstate"
)

// An entry is what one batch of changes did to the view of a class.
type entry struct {
	serial int64
	// before is the digest of the view before the ops.
	before mapstate.Digest
	ops    []*op
}

// A classLog lists the changes of a class's view with rising serials.
type classLog struct {
	// floor is the serial from which on nothing is missing.
	floor   int64
	entries []entry
	// merged is the last merge of several entries, for the next peer that asks for the same.
	merged atomic.Pointer[mergedLists]
}

// between returns the entries after one serial up to another; ok is false when the log does not reach back so far.
func (l *classLog) between(after, upto int64) (entries []entry, ok bool) {
	if after < l.floor {
		return nil, false
	}
	start, _ := slices.BinarySearchFunc(l.entries, after+1, bySerial)
	end, _ := slices.BinarySearchFunc(l.entries, upto+1, bySerial)
	return l.entries[start:max(start, end)], true
}

func bySerial(e entry, serial int64) int { return cmp.Compare(e.serial, serial) }

// trim forgets the oldest entry if it is of that serial.
func (l *classLog) trim(serial int64) {
	if len(l.entries) == 0 || l.entries[0].serial != serial {
		return
	}
	l.floor = serial
	l.entries[0] = entry{}
	l.entries = l.entries[1:]
}

// A history remembers which classes have entries of which serial, so that the oldest of all can be forgotten first.
type history struct {
	limit, count int
	batches      []batchRecord
}

type batchRecord struct {
	serial  int64
	classes []*class
}

func (h *history) add(serial int64, classes []*class) {
	if len(classes) == 0 {
		return
	}
	h.batches = append(h.batches, batchRecord{serial, classes})
	h.count += len(classes)
	for h.count > h.limit && len(h.batches) > 1 {
		h.forgetOldest()
	}
}

// forget trims all entries up to a serial.
func (h *history) forget(serial int64) {
	for len(h.batches) > 0 && h.batches[0].serial <= serial {
		h.forgetOldest()
	}
}

func (h *history) forgetOldest() {
	oldest := h.batches[0]
	for _, c := range oldest.classes {
		c.log.trim(oldest.serial)
	}
	h.count -= len(oldest.classes)
	h.batches[0] = batchRecord{}
	h.batches = h.batches[1:]
}

// maxTurns bounds a peer's own log; an agent that missed more gets a snapshot.
const maxTurns = 32

// A turn is an entry of a peer's own log: its self changed, or it moved to another class, or both.
type turn struct {
	serial int64
	// selfBefore is the hash of self before; self is nil when it did not change.
	selfBefore mapstate.Digest
	self       *op
	// from is the class that the peer left, nil when it stayed; fromSum is the digest of its view at that serial, and
	// ops lead from that view to the view of the new class.
	from    *class
	fromSum mapstate.Digest
	ops     []*op
}

// record adds a turn to the peer's own log.
func (p *peer) record(t turn) {
	if last := len(p.turns) - 1; last >= 0 && p.turns[last].serial == t.serial {
		merged := &p.turns[last]
		if t.self != nil {
			merged.self, merged.selfBefore = t.self, t.selfBefore
		}
		if t.from != nil {
			merged.from, merged.fromSum, merged.ops = t.from, t.fromSum, t.ops
		}
		return
	}
	p.turns = append(p.turns, t)
	if len(p.turns) > maxTurns {
		p.floor = p.turns[0].serial
		p.turns = slices.Delete(p.turns, 0, 1)
	}
}

// forget drops the turns up to a serial, and with them the classes that the peer left.
func (p *peer) forget(serial int64) {
	keep, _ := slices.BinarySearchFunc(p.turns, serial+1, byTurn)
	if keep > 0 {
		p.floor = p.turns[keep-1].serial
		p.turns = slices.Delete(p.turns, 0, keep)
	}
}

func byTurn(t turn, serial int64) int { return cmp.Compare(t.serial, serial) }

// A trail is everything that happened to one peer's map after a serial.
type trail struct {
	lists [][]*op
	// before is the digest of the map at that serial.
	before mapstate.Digest
}

// follow collects the trail of a peer; ok is false when the logs do not reach back to the serial.
func (p *peer) follow(after int64, head int64) (t trail, ok bool) {
	if after < p.floor || after > head {
		return trail{}, false
	}
	at, self := after, p.selfHash
	var view mapstate.Digest
	started := false
	begin := func(sum mapstate.Digest) {
		if !started {
			view, started = sum, true
		}
	}
	add := func(c *class, upto int64) bool {
		entries, ok := c.log.between(at, upto)
		for _, e := range entries {
			begin(e.before)
			t.lists = append(t.lists, e.ops)
		}
		at = upto
		return ok
	}
	start, _ := slices.BinarySearchFunc(p.turns, after+1, byTurn)
	selfKnown := false
	for _, turn := range p.turns[start:] {
		if turn.self != nil {
			if !selfKnown {
				self, selfKnown = turn.selfBefore, true
			}
			t.lists = append(t.lists, []*op{turn.self})
		}
		if turn.from != nil {
			if !add(turn.from, turn.serial) {
				return trail{}, false
			}
			begin(turn.fromSum)
			if len(turn.ops) > 0 {
				t.lists = append(t.lists, turn.ops)
			}
		}
	}
	if !add(p.class, head) {
		return trail{}, false
	}
	begin(p.class.sum())
	t.before = view.Plus(self)
	return t, true
}

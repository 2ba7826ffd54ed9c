package netmap

import (
	"slices"

	"github.com/wattlenet/wattle/internal/mapstate"
)

// A single is a batch that touches one ordinal only: a peer joined, left or changed. Classes that see the same of the
// patched sets are told the same, so what they are told is worked out once for all of them, and each class costs a few
// additions, one look at its visible peers and an entry in its log.
type single struct {
	b *batch
	n uint32
	// held says whether any set holds the peer afterwards.
	held  bool
	masks map[uint64]*maskPart
	tales map[tale]*entryPart
}

// A maskPart is what follows from which patched sets a class sees.
type maskPart struct {
	ops  []*op           // in the order of a delta
	sets mapstate.Digest // the change of its set sum
	adds bool            // the peer is new in one of the sets
}

// A tale is all on which the ops for a class depend: the patched sets that it sees, and whether it saw the peer before
// and sees it now.
type tale struct {
	mask        uint64
	lacks       Features
	before, now bool
}

// An entryPart is what follows from a tale.
type entryPart struct {
	ops   []*op
	peers mapstate.Digest // the change of its peer sum
}

// singleOf returns nil when the batch touches several ordinals, or more sets than a mask has bits.
func (b *batch) singleOf() *single {
	if b.masked > maskBits {
		return nil
	}
	var ordinals []uint32
	for n := range b.entries {
		ordinals = append(ordinals, n)
	}
	for _, s := range b.patched {
		ordinals = append(append(ordinals, s.patch.added...), s.patch.removed...)
	}
	if len(ordinals) == 0 || slices.ContainsFunc(ordinals, func(n uint32) bool { return n != ordinals[0] }) {
		return nil
	}
	one := &single{b: b, n: ordinals[0], masks: map[uint64]*maskPart{}, tales: map[tale]*entryPart{}}
	if p := b.e.ordinals[one.n]; p != nil {
		for _, base := range b.e.standing(p) {
			for s := range base.sets {
				one.held = one.held || s.members.Contains(one.n)
			}
		}
	}
	return one
}

// patch does what the patch of the batch does, for one class.
func (o *single) patch(c *class) []*op {
	mask := c.work.mask
	part := o.masks[mask]
	if part == nil {
		part = o.part(c.work.patched)
		o.masks[mask] = part
	}
	var before, now bool
	switch {
	case mask == 0:
		// Touched because one of its sets holds the peer, or because the peer was its own member.
		before = len(c.work.entries) > 0 || c.visible.Contains(o.n)
		now = before
	case part.adds || o.held && c.shows(o.n):
		before, now = !c.visible.CheckedAdd(o.n), true
	default:
		before, now = c.visible.CheckedRemove(o.n), false
	}
	key := tale{mask, c.lacks, before, now}
	told := o.tales[key]
	if told == nil {
		told = o.tell(part, key)
		o.tales[key] = told
	}
	if mask != 0 {
		c.setSum, c.setsAt = c.setSum.Plus(part.sets), o.b.e.serial
	}
	c.peerSum = c.peerSum.Plus(told.peers)
	return told.ops
}

func (o *single) part(patched []*set) *maskPart {
	part := &maskPart{ops: make([]*op, 0, len(patched))}
	for _, s := range patched {
		part.ops = append(part.ops, s.patch.op)
		part.sets = part.sets.Plus(s.patch.delta)
		part.adds = part.adds || len(s.patch.added) > 0
	}
	return part
}

func (o *single) tell(part *maskPart, t tale) *entryPart {
	told := &entryPart{ops: part.ops}
	change, sum := o.b.entryChange(t.lacks, o.n, t.before, t.now)
	switch {
	case change == nil:
	case change.kind < opSetPatch:
		told.ops, told.peers = slices.Concat([]*op{change}, part.ops), sum
	default:
		told.ops, told.peers = slices.Concat(part.ops, []*op{change}), sum
	}
	o.b.noteRevokes(told.ops)
	return told
}

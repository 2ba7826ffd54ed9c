package netmap

import "slices"

// maskBits is how many patched sets a batch can tell apart in the masks of classes.
const maskBits = 64

// A classWork is what a batch has to do with one class.
type classWork struct {
	// touched says that the class is in the list of the batch already. recompile says that its rules may be others now,
	// extend that some came to them.
	touched, recompile, extend bool
	// naming says that the DNS of the class may have changed.
	naming bool
	// mask has the bits of the patched sets that the class sees, for the first 64 of the batch.
	mask    uint64
	patched []*set
	entries []uint32
}

// clear makes the work empty and keeps its memory for the next batch.
func (w *classWork) clear() {
	clear(w.patched)
	*w = classWork{patched: w.patched[:0], entries: w.entries[:0]}
}

// touch returns the work of a class. It stands at the class: a join touches hundreds of classes, and looking each up in
// a map would be a third of its time.
func (b *batch) touch(c *class) *classWork {
	if !c.work.touched {
		c.work.touched = true
		b.touched = append(b.touched, c)
	}
	return &c.work
}

// patch handles the usual case: some sets of the class have new or lost members, or an entry changed. Its cost is that
// of the ordinals touched, not of the view.
func (b *batch) patch(c *class, w *classWork) []*op {
	ops := make([]*op, 0, len(w.patched)+len(w.entries)+1)
	touched := slices.Clone(w.entries)
	for _, s := range w.patched {
		p := s.patch
		touched = append(append(touched, p.added...), p.removed...)
		ops = append(ops, p.op)
		c.setSum = c.setSum.Plus(p.delta)
		c.setsAt = b.e.serial
	}
	slices.Sort(touched)
	for _, n := range slices.Compact(touched) {
		before := c.visible.Contains(n)
		now := before
		if w.moves(n) {
			now = w.adds(n) || c.shows(n)
		}
		if o := b.entryOp(c, n, before, now); o != nil {
			ops = append(ops, o)
		}
		switch {
		case now && !before:
			c.visible.Add(n)
		case before && !now:
			c.visible.Remove(n)
		}
	}
	return ops
}

// moves reports whether a patched set gained or lost a peer.
func (w *classWork) moves(n uint32) bool {
	return slices.ContainsFunc(w.patched, func(s *set) bool {
		return slices.Contains(s.patch.added, n) || slices.Contains(s.patch.removed, n)
	})
}

// adds reports whether a patched set has a peer as a new member: the usual answer, found without a search.
func (w *classWork) adds(n uint32) bool {
	return slices.ContainsFunc(w.patched, func(s *set) bool { return slices.Contains(s.patch.added, n) })
}

func (c *class) shows(n uint32) bool {
	return slices.ContainsFunc(c.sets, func(s *set) bool { return s.members.Contains(n) })
}

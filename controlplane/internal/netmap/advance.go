package netmap

import (
	"cmp"
	"slices"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/internal/mapstate"
)

// A classWork is what a batch has to do with one class.
type classWork struct {
	patched   []*set
	entries   []uint32
	recompile bool
}

// touch returns the work of a class and makes it when there is none. It stands at the class: a join touches hundreds of
// classes, and looking each up in a map would be a third of its time.
func (b *batch) touch(c *class) *classWork {
	if c.work == nil {
		c.work = &classWork{}
		b.touched = append(b.touched, c)
	}
	return c.work
}

// advance brings the view of a class to the serial of the batch and logs the ops that lead there.
func (b *batch) advance(c *class, w *classWork) {
	before := c.sum()
	var ops []*op
	if w.recompile {
		ops = b.recompile(c, w)
	} else {
		ops = b.patch(c, w)
	}
	if len(ops) == 0 {
		return
	}
	sortOps(ops)
	c.log.entries = append(c.log.entries, entry{serial: b.e.serial, before: before, ops: ops})
	b.update.logged = append(b.update.logged, c)
	b.noteRevokes(ops)
}

func (b *batch) noteRevokes(ops []*op) {
	b.update.Revokes = b.update.Revokes || slices.ContainsFunc(ops, func(o *op) bool { return o.revokes })
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

// entryOp returns what a class must be told of one peer's entry, and keeps the digest. Nil when nothing.
func (b *batch) entryOp(c *class, n uint32, before, now bool) *op {
	var hash mapstate.Digest
	if p := b.e.ordinals[n]; p != nil {
		hash = p.hash
	}
	was, changed := b.entries[n]
	if !changed {
		was = hash
	}
	switch {
	case before && !now:
		c.peerSum = c.peerSum.Minus(was)
		return b.removal(n)
	case !before && now:
		c.peerSum = c.peerSum.Plus(hash)
		return b.upsert(n, true)
	case before && was != hash:
		c.peerSum = c.peerSum.Minus(was).Plus(hash)
		return b.upsert(n, false)
	}
	return nil
}

// upsert encodes the entry of a peer once per batch.
func (b *batch) upsert(n uint32, fresh bool) *op {
	key := upsertKey{n, fresh}
	if b.upserts[key] == nil {
		b.upserts[key] = upsertOp(n, b.e.ordinals[n].raw, fresh)
	}
	return b.upserts[key]
}

func (b *batch) removal(n uint32) *op {
	if b.removals == nil {
		b.removals = map[uint32]*op{}
	}
	if b.removals[n] == nil {
		b.removals[n] = removeOp(n)
	}
	return b.removals[n]
}

// put encodes a set once per batch.
func (b *batch) put(s *set) *op {
	if b.puts[s] == nil {
		b.puts[s] = putOp(s.id, s.members.Clone(), true)
	}
	return b.puts[s]
}

// recompile handles a class whose rules may have changed.
func (b *batch) recompile(c *class, w *classWork) []*op {
	old := view{c.rules, c.sets}
	oldVisible := c.visible
	v := b.e.compile(c)
	ops := b.differ(old, v)
	for _, s := range w.patched {
		if slices.Contains(v.sets, s) {
			ops = append(ops, s.patch.op)
		}
	}
	for _, s := range old.sets {
		if !slices.Contains(v.sets, s) {
			b.e.release(s, c)
		}
	}
	c.rules, c.sets, c.visible = v.rules, v.sets, v.see()
	c.ruleSum, c.setSum = v.sums()
	for ordinals := roaring.Xor(oldVisible, c.visible).Iterator(); ordinals.HasNext(); {
		n := ordinals.Next()
		ops = append(ops, b.entryOp(c, n, oldVisible.Contains(n), c.visible.Contains(n)))
	}
	for n := range b.entries {
		if oldVisible.Contains(n) && c.visible.Contains(n) {
			if o := b.entryOp(c, n, true, true); o != nil {
				ops = append(ops, o)
			}
		}
	}
	if len(ops) > 0 {
		c.setsAt, c.rulesAt = b.e.serial, b.e.serial
	}
	return ops
}

// differ returns the ops of rules and sets that lead from one view to another. Sets in both are not looked into.
func (b *batch) differ(old, want view) []*op {
	var ops []*op
	for id, r := range want.rules {
		if before := old.rules[id]; before == nil || before.hash != r.hash {
			ops = append(ops, ruleOp(r, before == nil))
		}
	}
	for id := range old.rules {
		if want.rules[id] == nil {
			ops = append(ops, ruleRemoveOp(id))
		}
	}
	for _, s := range want.sets {
		if !slices.Contains(old.sets, s) {
			ops = append(ops, b.put(s))
		}
	}
	for _, s := range old.sets {
		if !slices.Contains(want.sets, s) {
			ops = append(ops, setRemoveOp(s.id))
		}
	}
	return ops
}

// movePeers puts peers that stand in other bases now into their class. Peers that make the same move share its ops.
func (b *batch) movePeers() {
	type move struct{ from, to *class }
	moves := map[move][]*op{}
	var left []*class
	for _, p := range b.regrouped() {
		bases := b.e.classBases(p)
		key := classKey(bases)
		if p.class != nil && p.class.key == key {
			continue
		}
		to := b.e.classes[key]
		if to == nil {
			to = b.e.newClass(key, bases)
		}
		from := p.class
		p.class = to
		to.peers.Add(p.Ordinal)
		if from == nil {
			b.update.single = append(b.update.single, p.ID)
			continue
		}
		from.peers.Remove(p.Ordinal)
		left = append(left, from)
		ops, known := moves[move{from, to}]
		if !known {
			ops = b.between(from, to)
			moves[move{from, to}] = ops
			b.noteRevokes(ops)
		}
		p.record(turn{serial: b.e.serial, from: from, fromSum: from.sum(), ops: ops})
		b.update.single = append(b.update.single, p.ID)
	}
	// A removed peer may have been the last of a touched class.
	for _, c := range slices.Concat(left, b.touched) {
		if c.peers.IsEmpty() && b.e.classes[c.key] == c {
			b.e.drop(c)
		}
	}
}

func (b *batch) regrouped() []*peer {
	peers := make([]*peer, 0, len(b.regroup))
	for p := range b.regroup {
		peers = append(peers, p)
	}
	slices.SortFunc(peers, func(x, y *peer) int { return cmp.Compare(x.Ordinal, y.Ordinal) })
	return peers
}

// between returns the ops that lead from the view of one class to that of another.
func (b *batch) between(from, to *class) []*op {
	ops := b.differ(view{from.rules, from.sets}, view{to.rules, to.sets})
	for gone := roaring.AndNot(from.visible, to.visible).Iterator(); gone.HasNext(); {
		ops = append(ops, b.removal(gone.Next()))
	}
	for come := roaring.AndNot(to.visible, from.visible).Iterator(); come.HasNext(); {
		ops = append(ops, b.upsert(come.Next(), true))
	}
	sortOps(ops)
	return ops
}

// tellSelves renews what the peers are told of themselves.
func (b *batch) tellSelves() {
	for p := range b.selves {
		self := selfOf(p.Peer, b.e.settings)
		if self == p.self {
			continue
		}
		known := p.self.Id != ""
		before := p.selfHash
		p.self, p.selfHash = self, mapstate.HashSelf(self)
		if !known {
			continue
		}
		o := selfOp(self)
		p.record(turn{serial: b.e.serial, self: o, selfBefore: before})
		b.update.single = append(b.update.single, p.ID)
		b.noteRevokes([]*op{o})
	}
}

package netmap

import (
	"cmp"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/internal/mapstate"
)

// advance brings the view of a class to the serial of the batch and logs the ops that lead there.
func (b *batch) advance(c *class) {
	before := c.sum()
	var ops []*op
	switch {
	case c.work.recompile, c.work.extend && len(c.work.patched)+len(c.work.entries) > 0:
		ops = b.recompile(c, &c.work)
		sortOps(ops)
	case c.work.extend:
		ops = b.extend(c)
		sortOps(ops)
	case b.single != nil:
		ops = b.single.patch(c)
	default:
		ops = b.patch(c, &c.work)
		sortOps(ops)
	}
	if c.work.naming {
		if told := b.advanceNaming(c); len(told) > 0 {
			ops = slices.Concat(ops, told) // those before may be shared
			sortOps(ops)
			c.rulesAt = b.e.serial
		}
	}
	if len(ops) == 0 {
		return
	}
	c.log.entries = append(c.log.entries, entry{serial: b.e.serial, before: before, ops: ops})
	b.update.logged = append(b.update.logged, c)
	if b.single == nil || c.work.recompile || c.work.extend {
		b.noteRevokes(ops)
	}
}

func (b *batch) noteRevokes(ops []*op) {
	b.update.Revokes = b.update.Revokes || slices.ContainsFunc(ops, func(o *op) bool { return o.revokes })
}

// entryOp returns what a class must be told of one peer's entry, and keeps the digest. Nil when nothing.
func (b *batch) entryOp(c *class, n uint32, before, now bool) *op {
	o, sum := b.entryChange(c.lacks, n, before, now)
	c.peerSum = c.peerSum.Plus(sum)
	return o
}

// entryChange returns what those who lack some features are told of one peer's entry who saw it before and see it now,
// or not, and by how much their sum of peers changes.
func (b *batch) entryChange(lacks Features, n uint32, before, now bool) (o *op, sum mapstate.Digest) {
	var present forms
	if p := b.e.ordinals[n]; p != nil {
		present = p.forms
	}
	former, changed := b.entries[n]
	if !changed {
		former = present
	}
	was, hash := former.of(lacks).hash, present.of(lacks).hash
	switch {
	case before && !now:
		return b.removal(n), sum.Minus(was)
	case !before && now:
		return b.upsert(lacks, n, true), hash
	case before && was != hash:
		return b.upsert(lacks, n, false), hash.Minus(was)
	}
	return nil, sum
}

// upsert encodes each form of the entry of a peer once per batch.
func (b *batch) upsert(lacks Features, n uint32, fresh bool) *op {
	p := b.e.ordinals[n]
	key := upsertKey{n, fresh, lacks&FeatureKeys != 0 && p.NextKey != ""}
	if b.upserts[key] == nil {
		b.upserts[key] = upsertOp(n, p.forms.of(lacks).raw, fresh)
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
	old := c.view()
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
	c.show(v)
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

// extend handles a plain class to which rules came that stand alone, and nothing else happened. Its cost is that of those
// rules: a network gets its policies one by one, and compiling all of them again with each would be their square.
func (b *batch) extend(c *class) []*op {
	var ops []*op
	v := view{rules: map[string]*ruleView{}}
	for _, r := range b.came {
		out, in := c.standsIn(r.sources), c.standsIn(r.destinations)
		if !out && !in {
			continue
		}
		b.e.tell(c, &v, r, expression{union: r.sources}, in, expression{union: r.destinations}, out)
		told := v.rules[r.id]
		ops = append(ops, ruleOp(told, true))
		c.rules[r.id] = told
		c.ruleSum = c.ruleSum.Plus(told.hash)
	}
	for _, s := range v.sets {
		at, seen := slices.BinarySearchFunc(c.sets, s.id, func(s *set, id string) int { return strings.Compare(s.id, id) })
		if seen {
			continue
		}
		c.sets = slices.Insert(slices.Clone(c.sets), at, s)
		c.setSum = c.setSum.Plus(s.sum)
		ops = append(ops, b.put(s))
		for ordinals := roaring.AndNot(s.members, c.visible).Iterator(); ordinals.HasNext(); {
			ops = append(ops, b.entryOp(c, ordinals.Next(), false, true))
		}
		c.visible.Or(s.members)
	}
	if len(ops) > 0 {
		c.setsAt, c.rulesAt = b.e.serial, b.e.serial
	}
	return ops
}

// differ returns the ops of rules, routes and sets that lead from one view to another. Sets in both are not looked into.
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
	for id, r := range want.routes {
		if before := old.routes[id]; before == nil || before.hash != r.hash {
			ops = append(ops, routeOp(r, before == nil))
		}
	}
	for id := range old.routes {
		if want.routes[id] == nil {
			ops = append(ops, routeRemoveOp(id))
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
		key := classKey(bases, p.lacks)
		if p.class != nil && p.class.key == key {
			continue
		}
		to := b.e.classes[key]
		if to == nil {
			to = b.e.newClass(key, bases, p.lacks)
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
	ops := append(b.differ(from.view(), to.view()), b.differNaming(from.naming, to.naming, nil)...)
	for gone := roaring.AndNot(from.visible, to.visible).Iterator(); gone.HasNext(); {
		ops = append(ops, b.removal(gone.Next()))
	}
	for come := roaring.AndNot(to.visible, from.visible).Iterator(); come.HasNext(); {
		ops = append(ops, b.upsert(to.lacks, come.Next(), true))
	}
	sortOps(ops)
	return ops
}

// tellSelves renews what the peers are told of themselves.
func (b *batch) tellSelves() {
	for p := range b.selves {
		self := b.e.selfOf(p)
		known, before, hash := p.self.Id != "", p.selfHash, mapstate.HashSelf(self)
		if known && hash == before {
			continue
		}
		p.self, p.selfHash = self, hash
		if !known {
			continue
		}
		o := selfOp(self)
		p.record(turn{serial: b.e.serial, self: o, selfBefore: before})
		b.update.single = append(b.update.single, p.ID)
		b.noteRevokes([]*op{o})
	}
}

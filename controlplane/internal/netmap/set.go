package netmap

import (
	"slices"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/internal/mapstate"
)

// chunkBits makes directory chunks of 4,096 ordinals.
const chunkBits = 12

// A set holds the present members of an expression that at least one class sees.
type set struct {
	id, key string
	expr    expression
	members *roaring.Bitmap
	// sum is the digest of the set and its members.
	sum     mapstate.Digest
	classes map[*class]struct{}
	// patch is what the batch that is being applied did to the set; nil between batches.
	patch *patch

	// born is the serial at which the set was made; chunks holds the serial of the last change in a directory chunk.
	born   int64
	chunks map[uint32]int64
}

// acquire returns the set of the expression for a class; the class must release it.
func (e *Engine) acquire(x expression, c *class) *set {
	key := x.key()
	s := e.sets[key]
	if s == nil {
		s = &set{
			id: e.cfg.opaque("s_", key), key: key, expr: x, members: x.members(e.approved),
			classes: map[*class]struct{}{}, born: e.serial, chunks: map[uint32]int64{},
		}
		s.sum = mapstate.HashSet(s.id).Plus(sumMembers(s.id, s.members))
		e.sets[key] = s
		for b := range s.bases() {
			b.sets[s] = struct{}{}
		}
	}
	s.classes[c] = struct{}{}
	return s
}

func (e *Engine) release(s *set, c *class) {
	delete(s.classes, c)
	if len(s.classes) > 0 {
		return
	}
	delete(e.sets, s.key)
	for b := range s.bases() {
		delete(b.sets, s)
		e.forget(b)
	}
}

func (s *set) bases() map[*base]struct{} {
	bases := map[*base]struct{}{}
	s.expr.bases(bases)
	return bases
}

// forget drops a base on which nothing depends, unless it is a group that exists.
func (e *Engine) forget(b *base) {
	if b.idle() && !e.groups[b.name] && e.bases[b.name] == b {
		delete(e.bases, b.name)
		e.unfilter(b)
	}
}

func sumMembers(id string, members *roaring.Bitmap) mapstate.Digest {
	var sum mapstate.Digest
	for ordinals := members.Iterator(); ordinals.HasNext(); {
		sum = sum.Plus(mapstate.HashMember(id, ordinals.Next()))
	}
	return sum
}

// A patch is what one batch of changes did to the members of a set.
type patch struct {
	added, removed []uint32
	// delta is the change of the set's sum.
	delta mapstate.Digest
	op    *op
}

// refresh brings the membership of one peer up to date and notes the change in the patch.
func (s *set) refresh(e *Engine, n uint32) {
	p := s.patch
	now, before := e.approved.Contains(n) && s.expr.holds(n), s.members.Contains(n)
	switch {
	case now && !before:
		s.members.Add(n)
		p.added = append(p.added, n)
		p.delta = p.delta.Plus(mapstate.HashMember(s.id, n))
	case !now && before:
		s.members.Remove(n)
		p.removed = append(p.removed, n)
		p.delta = p.delta.Minus(mapstate.HashMember(s.id, n))
	default:
		return
	}
	s.chunks[n>>chunkBits] = e.serial
}

// chunkVersion is the serial of the last change of a directory chunk.
func (s *set) chunkVersion(chunk uint32) int64 {
	return max(s.born, s.chunks[chunk])
}

// finish seals the patch after the last refresh.
func (s *set) finish() {
	p := s.patch
	slices.Sort(p.added)
	slices.Sort(p.removed)
	s.sum = s.sum.Plus(p.delta)
	p.op = patchOp(s.id, p.added, p.removed)
}

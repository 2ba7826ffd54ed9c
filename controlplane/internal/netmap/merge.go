package netmap

import "github.com/RoaringBitmap/roaring"

// merge makes one list of ops out of several that follow each other: of each object only the last state remains, and
// what came and went in between is not told at all. The result leads to the same map.
func merge(lists [][]*op) []*op {
	switch len(lists) {
	case 0:
		return nil
	case 1:
		return lists[0]
	}
	m := merger{peers: map[uint32]*span{}, rules: map[string]*span{}, routes: map[string]*span{}, named: map[opKey]*span{}, sets: map[string]*setSpan{}}
	for _, ops := range lists {
		for _, o := range ops {
			m.add(o)
		}
	}
	return m.ops()
}

type merger struct {
	self   *op
	peers  map[uint32]*span
	rules  map[string]*span
	routes map[string]*span
	named  map[opKey]*span // zones, records and nameserver groups, by the kind that puts them
	sets   map[string]*setSpan
}

// puts is the kind that puts what a kind removes.
var puts = map[opKind]opKind{opZoneRemove: opZoneUpsert, opRecordRemove: opRecordUpsert, opNameserverRemove: opNameserverUpsert}

// A span is what happened to one object between the first and the last list.
type span struct {
	existed bool
	last    *op
}

// A setSpan is a span whose patches add up. While the set was not put anew, added and removed are its net change.
type setSpan struct {
	existed, gone  bool
	members        *roaring.Bitmap // after a put
	added, removed *roaring.Bitmap
}

func (m *merger) add(o *op) {
	switch o.kind {
	case opSelf:
		m.self = o
	case opPeerUpsert, opPeerRemove:
		note(m.peers, o.n, o)
	case opRuleUpsert, opRuleRemove:
		note(m.rules, o.id, o)
	case opRouteUpsert, opRouteRemove:
		note(m.routes, o.id, o)
	case opZoneUpsert, opRecordUpsert, opNameserverUpsert:
		note(m.named, opKey{kind: o.kind, id: o.id}, o)
	case opZoneRemove, opRecordRemove, opNameserverRemove:
		note(m.named, opKey{kind: puts[o.kind], id: o.id}, o)
	case opSetPut, opSetPatch, opSetRemove:
		m.addSet(o)
	}
}

func note[K comparable](spans map[K]*span, key K, o *op) {
	s := spans[key]
	if s == nil {
		s = &span{existed: !o.fresh}
		spans[key] = s
	}
	s.last = o
}

func (m *merger) addSet(o *op) {
	s := m.sets[o.id]
	if s == nil {
		s = &setSpan{existed: !o.fresh, added: roaring.New(), removed: roaring.New()}
		m.sets[o.id] = s
	}
	switch o.kind {
	case opSetPut:
		s.gone, s.members = false, o.members.Clone()
	case opSetRemove:
		s.gone, s.members = true, nil
	default:
		s.patch(o)
	}
}

func (s *setSpan) patch(o *op) {
	for _, n := range o.added {
		if s.members != nil {
			s.members.Add(n)
		} else if !s.removed.CheckedRemove(n) {
			s.added.Add(n)
		}
	}
	for _, n := range o.removed {
		if s.members != nil {
			s.members.Remove(n)
		} else if !s.added.CheckedRemove(n) {
			s.removed.Add(n)
		}
	}
}

func (m *merger) ops() []*op {
	var ops []*op
	if m.self != nil {
		ops = append(ops, m.self)
	}
	for _, s := range m.peers {
		if s.existed || s.last.kind == opPeerUpsert {
			ops = append(ops, s.last)
		}
	}
	for _, s := range m.rules {
		if s.existed || s.last.kind == opRuleUpsert {
			ops = append(ops, s.last)
		}
	}
	for _, s := range m.routes {
		if s.existed || s.last.kind == opRouteUpsert {
			ops = append(ops, s.last)
		}
	}
	for key, s := range m.named {
		if s.existed || s.last.kind == key.kind {
			ops = append(ops, s.last)
		}
	}
	for id, s := range m.sets {
		switch {
		case s.gone && s.existed:
			ops = append(ops, setRemoveOp(id))
		case s.members != nil:
			ops = append(ops, putOp(id, s.members, !s.existed))
		case !s.gone && (!s.added.IsEmpty() || !s.removed.IsEmpty()):
			ops = append(ops, patchOp(id, s.added.ToArray(), s.removed.ToArray()))
		}
	}
	sortOps(ops)
	return ops
}

package netmap

import (
	"maps"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// naming is the DNS of an account: what is distributed to groups, without regard to rules.
//
//	group ──> zones ──> records
//	      └─> nameservers
//
// An item is encoded once when it is put, for all classes that are told of it.
type naming struct {
	zones       map[string]*zone
	records     map[string]*item[api.RecordView]
	nameservers map[string]*served
	// unmanaged holds the bases whose peers get nothing of it.
	unmanaged []*base
}

func newNaming() naming {
	return naming{zones: map[string]*zone{}, records: map[string]*item[api.RecordView]{}, nameservers: map[string]*served{}}
}

// An item is a zone, a record or a nameserver group as the map shows it. It never changes.
type item[V any] struct {
	view V
	hash mapstate.Digest
	raw  []byte
}

func newItem[V any](view V, hash mapstate.Digest) *item[V] {
	return &item[V]{view, hash, marshal(view)}
}

// A zone is a DNS zone, its records and whom it is distributed to.
type zone struct {
	id      string
	item    *item[api.ZoneView]
	groups  []*base
	records map[string]*item[api.RecordView]
	// sum is that of the zone and its records.
	sum mapstate.Digest
}

// served is a nameserver group and whom it is distributed to.
type served struct {
	id     string
	item   *item[api.NameserverView]
	groups []*base
}

// A namingView is the DNS that a class is told.
type namingView struct {
	zones       []*zone   // in the order of their ids
	nameservers []*served // in the order of their ids
	sum         mapstate.Digest
}

// keepsDNS reports whether the peer stands in a group whose peers get no DNS. An agent that does not know of DNS keeps it
// without being told.
func (p *peer) keepsDNS() bool {
	for b := range p.groups {
		if b.unmanaged {
			return p.lacks&FeatureDNS == 0
		}
	}
	return false
}

// namingOf gathers what is distributed to a class.
func namingOf(c *class) (v namingView) {
	if c.lacks&FeatureDNS != 0 || slices.ContainsFunc(c.bases, func(b *base) bool { return b.unmanaged }) {
		return v
	}
	for _, b := range c.bases {
		for z := range b.zones {
			v.zones = append(v.zones, z)
		}
		for s := range b.nameservers {
			v.nameservers = append(v.nameservers, s)
		}
	}
	slices.SortFunc(v.zones, func(a, b *zone) int { return strings.Compare(a.id, b.id) })
	slices.SortFunc(v.nameservers, func(a, b *served) int { return strings.Compare(a.id, b.id) })
	v.zones, v.nameservers = slices.Compact(v.zones), slices.Compact(v.nameservers)
	for _, z := range v.zones {
		v.sum = v.sum.Plus(z.sum)
	}
	for _, s := range v.nameservers {
		v.sum = v.sum.Plus(s.item.hash)
	}
	return v
}

func (v namingView) empty() bool { return len(v.zones)+len(v.nameservers) == 0 }

// A namingWork is what a batch does to the names of the account. The maps hold what was there before the batch, nil for
// what was not; the records are those of a zone.
type namingWork struct {
	zones       map[string]*item[api.ZoneView]
	records     map[string]map[string]*item[api.RecordView]
	nameservers map[string]*item[api.NameserverView]
	// bases are those whose classes may be told of something.
	bases map[*base]struct{}
	ops   map[opKey]*op
}

type opKey struct {
	kind  opKind
	id    string
	fresh bool
}

func (b *batch) namingNow() *namingWork {
	if b.naming == nil {
		b.naming = &namingWork{
			zones: map[string]*item[api.ZoneView]{}, records: map[string]map[string]*item[api.RecordView]{},
			nameservers: map[string]*item[api.NameserverView]{}, bases: map[*base]struct{}{}, ops: map[opKey]*op{},
		}
	}
	return b.naming
}

// applyNaming applies a change of the DNS.
func (b *batch) applyNaming(c Change) {
	switch c := c.(type) {
	case ZonePut:
		b.putZone(c.Zone)
	case ZoneRemove:
		b.removeZone(c.ID)
	case RecordPut:
		b.putRecord(c.Record)
	case RecordRemove:
		b.removeRecord(c.ID)
	case NameserverPut:
		b.putNameserver(c.Nameserver)
	case NameserverRemove:
		b.removeNameserver(c.ID)
	case DNSSettingsPut:
		b.putUnmanaged(c.Unmanaged)
	}
}

func (b *batch) putZone(want Zone) {
	z := b.e.naming.zones[want.ID]
	if z == nil {
		z = &zone{id: want.ID, records: map[string]*item[api.RecordView]{}}
		b.e.naming.zones[want.ID] = z
	}
	b.noteZone(z)
	if z.item != nil {
		z.sum = z.sum.Minus(z.item.hash)
	}
	view := want.view()
	z.item = newItem(view, mapstate.HashZone(view))
	z.sum = z.sum.Plus(z.item.hash)
	z.groups = b.distribute(z.groups, want.Groups, func(g *base) { delete(g.zones, z) }, func(g *base) {
		if g.zones == nil {
			g.zones = map[*zone]struct{}{}
		}
		g.zones[z] = struct{}{}
	})
}

func (b *batch) removeZone(id string) {
	z := b.e.naming.zones[id]
	if z == nil {
		return
	}
	for _, record := range slices.Collect(maps.Keys(z.records)) {
		b.removeRecord(record)
	}
	b.noteZone(z)
	b.distribute(z.groups, nil, func(g *base) { delete(g.zones, z) }, nil)
	delete(b.e.naming.zones, id)
}

func (b *batch) noteZone(z *zone) {
	w := b.namingNow()
	if _, noted := w.zones[z.id]; !noted {
		w.zones[z.id] = z.item
	}
	b.noteGroups(z.groups)
}

// noteGroups has the classes of the groups look at their DNS again.
func (b *batch) noteGroups(groups []*base) { addAll(b.namingNow().bases, groups) }

func (b *batch) putRecord(want Record) {
	z := b.e.naming.zones[want.Zone]
	b.dropRecord(z, want.ID)
	view := want.view()
	r := newItem(view, mapstate.HashRecord(view))
	z.records[want.ID], b.e.naming.records[want.ID] = r, r
	z.sum = z.sum.Plus(r.hash)
}

func (b *batch) removeRecord(id string) {
	if r := b.e.naming.records[id]; r != nil {
		b.dropRecord(b.e.naming.zones[r.view.Zone], id)
	}
}

// dropRecord takes a record out of its zone, if it is there, and notes what it was.
func (b *batch) dropRecord(z *zone, id string) {
	w, r := b.namingNow(), z.records[id]
	if w.records[z.id] == nil {
		w.records[z.id] = map[string]*item[api.RecordView]{}
	}
	if _, noted := w.records[z.id][id]; !noted {
		w.records[z.id][id] = r
	}
	b.noteGroups(z.groups)
	if r != nil {
		z.sum = z.sum.Minus(r.hash)
		delete(z.records, id)
		delete(b.e.naming.records, id)
	}
}

func (b *batch) putNameserver(want Nameserver) {
	s := b.e.naming.nameservers[want.ID]
	if s == nil {
		s = &served{id: want.ID}
		b.e.naming.nameservers[want.ID] = s
	}
	b.noteNameserver(s)
	view := want.view()
	s.item = newItem(view, mapstate.HashNameserver(view))
	s.groups = b.distribute(s.groups, want.Groups, func(g *base) { delete(g.nameservers, s) }, func(g *base) {
		if g.nameservers == nil {
			g.nameservers = map[*served]struct{}{}
		}
		g.nameservers[s] = struct{}{}
	})
}

func (b *batch) removeNameserver(id string) {
	s := b.e.naming.nameservers[id]
	if s == nil {
		return
	}
	b.noteNameserver(s)
	b.distribute(s.groups, nil, func(g *base) { delete(g.nameservers, s) }, nil)
	delete(b.e.naming.nameservers, id)
}

func (b *batch) noteNameserver(s *served) {
	w := b.namingNow()
	if _, noted := w.nameservers[s.id]; !noted {
		w.nameservers[s.id] = s.item
	}
	b.noteGroups(s.groups)
}

// distribute moves something from the groups that had it to those that shall have it, by their ids, and returns these.
func (b *batch) distribute(had []*base, want []string, leave, join func(*base)) []*base {
	for _, g := range had {
		leave(g)
		b.doubtful[g] = struct{}{}
	}
	groups := b.e.basesOf(end(want, ""))
	for _, g := range groups {
		join(g)
	}
	b.noteGroups(groups)
	return groups
}

// putUnmanaged makes these the groups whose peers get no DNS.
func (b *batch) putUnmanaged(ids []string) {
	e := b.e
	had := e.naming.unmanaged
	e.naming.unmanaged = e.basesOf(end(ids, ""))
	flip := func(g *base, unmanaged bool) {
		if g.unmanaged == unmanaged {
			return
		}
		g.unmanaged = unmanaged
		b.noteGroups([]*base{g})
		for _, n := range g.members.ToArray() {
			b.selves[e.ordinals[n]] = struct{}{}
		}
	}
	for _, g := range had {
		if !slices.Contains(e.naming.unmanaged, g) {
			flip(g, false)
			b.doubtful[g] = struct{}{}
		}
	}
	for _, g := range e.naming.unmanaged {
		flip(g, true)
	}
}

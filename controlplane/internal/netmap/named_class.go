package netmap

import (
	"maps"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/generated/api"
)

// touchNaming finds the classes whose DNS may have changed.
func (b *batch) touchNaming() {
	if b.naming == nil {
		return
	}
	for base := range b.naming.bases {
		for c := range base.classes {
			b.touch(c).naming = true
		}
	}
}

// advanceNaming brings the DNS of a class up to date and returns the ops that lead there.
func (b *batch) advanceNaming(c *class) []*op {
	had := c.naming
	c.naming = namingOf(c)
	return b.differNaming(had, c.naming, b.naming)
}

// differNaming returns the ops that lead from one DNS to another. What is in both changed as w tells; with nil for w
// nothing did, and had is not of before the batch but of now.
func (b *batch) differNaming(had, want namingView, w *namingWork) (ops []*op) {
	if w == nil {
		w = &namingWork{}
	}
	for _, z := range want.zones {
		if hasZone(had, z.id) {
			ops = append(ops, b.zoneChanges(z, w)...)
			continue
		}
		ops = append(ops, b.zoneOp(z, true))
		for _, r := range z.records {
			ops = append(ops, b.recordOp(r, true))
		}
	}
	for _, z := range had.zones {
		if hasZone(want, z.id) {
			continue
		}
		ops = append(ops, b.goneOp(opZoneRemove, z.id))
		for _, id := range b.recordsBefore(z, w) {
			ops = append(ops, b.goneOp(opRecordRemove, id))
		}
	}
	for _, s := range want.nameservers {
		before, changed := w.nameservers[s.id]
		switch known := hasNameserver(had, s.id); {
		case !known:
			ops = append(ops, b.nameserverOp(s, true))
		case changed && before.hash != s.item.hash:
			ops = append(ops, b.nameserverOp(s, false))
		}
	}
	for _, s := range had.nameservers {
		if !hasNameserver(want, s.id) {
			ops = append(ops, b.goneOp(opNameserverRemove, s.id))
		}
	}
	return ops
}

func hasZone(v namingView, id string) bool {
	_, found := slices.BinarySearchFunc(v.zones, id, func(z *zone, id string) int { return strings.Compare(z.id, id) })
	return found
}

func hasNameserver(v namingView, id string) bool {
	_, found := slices.BinarySearchFunc(v.nameservers, id, func(s *served, id string) int { return strings.Compare(s.id, id) })
	return found
}

// zoneChanges returns what those are told of a zone who had it before.
func (b *batch) zoneChanges(z *zone, w *namingWork) (ops []*op) {
	if before := w.zones[z.id]; before != nil && before.hash != z.item.hash {
		ops = append(ops, b.zoneOp(z, false))
	}
	for id, before := range w.records[z.id] {
		switch now := z.records[id]; {
		case now == nil && before != nil:
			ops = append(ops, b.goneOp(opRecordRemove, id))
		case now != nil && (before == nil || before.hash != now.hash):
			ops = append(ops, b.recordOp(now, before == nil))
		}
	}
	return ops
}

// recordsBefore returns the ids of the records that a zone had before the batch.
func (b *batch) recordsBefore(z *zone, w *namingWork) []string {
	noted := w.records[z.id]
	var ids []string
	if now := b.e.naming.zones[z.id]; now != nil {
		for id := range now.records {
			if _, changed := noted[id]; !changed {
				ids = append(ids, id)
			}
		}
	}
	for id, before := range noted {
		if before != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

func (b *batch) zoneOp(z *zone, fresh bool) *op {
	return b.once(opKey{opZoneUpsert, z.id, fresh}, func() []byte { return wrap(api.MapOpOpDnsZoneUpsert, "zone", z.item.raw) })
}

func (b *batch) recordOp(r *item[api.RecordView], fresh bool) *op {
	return b.once(opKey{opRecordUpsert, r.view.Id, fresh}, func() []byte { return wrap(api.MapOpOpDnsRecordUpsert, "record", r.raw) })
}

func (b *batch) nameserverOp(s *served, fresh bool) *op {
	return b.once(opKey{opNameserverUpsert, s.id, fresh}, func() []byte { return wrap(api.MapOpOpNameserverUpsert, "nameserver", s.item.raw) })
}

// goneOp is for the kinds that remove by id.
func (b *batch) goneOp(kind opKind, id string) *op {
	return b.once(opKey{kind, id, false}, func() []byte { return goneRaw(kind, id) })
}

func goneRaw(kind opKind, id string) []byte {
	name := map[opKind]api.MapOpOp{
		opZoneRemove: api.MapOpOpDnsZoneRemove, opRecordRemove: api.MapOpOpDnsRecordRemove, opNameserverRemove: api.MapOpOpNameserverRemove,
	}[kind]
	return marshal(api.MapOp{Op: name, Id: &id})
}

// once encodes an op once per batch, for every class and every move that tells it.
func (b *batch) once(key opKey, raw func() []byte) *op {
	if b.named[key] == nil {
		if b.named == nil {
			b.named = map[opKey]*op{}
		}
		b.named[key] = &op{kind: key.kind, id: key.id, fresh: key.fresh, raw: raw()}
	}
	return b.named[key]
}

// wrap writes an op around an item that is encoded already.
func wrap(kind api.MapOpOp, field string, item []byte) []byte {
	return slices.Concat([]byte(`{"op":"`+string(kind)+`","`+field+`":`), item, []byte{'}'})
}

// lists returns the encoded items of the DNS in the order of their ids.
func (v namingView) lists() (zones, records, nameservers [][]byte) {
	all := map[string][]byte{}
	for _, z := range v.zones {
		zones = append(zones, z.item.raw)
		for id, r := range z.records {
			all[id] = r.raw
		}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		records = append(records, all[id])
	}
	for _, s := range v.nameservers {
		nameservers = append(nameservers, s.item.raw)
	}
	return zones, records, nameservers
}

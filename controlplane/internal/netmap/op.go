package netmap

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// The kinds of ops in the order in which they stand in a delta, so that no op names what is not there:
// entries come before the sets that hold them, sets before the routes and rules that name them, routes before rules, and
// everything goes in reverse.
type opKind uint8

const (
	opSelf opKind = iota
	opPeerUpsert
	opSetPut
	opSetPatch
	opRouteUpsert
	opRuleUpsert
	opZoneUpsert
	opRecordUpsert
	opNameserverUpsert
	opNameserverRemove
	opRecordRemove
	opZoneRemove
	opRuleRemove
	opRouteRemove
	opSetRemove
	opPeerRemove
)

// An op is one change of a view, encoded once for all who are told of it. It never changes.
type op struct {
	kind opKind
	// n is the ordinal for ops of peers, id the object for the others.
	n  uint32
	id string
	// fresh says of an upsert or put that the receiver did not have the object before.
	fresh bool
	raw   []byte

	// What merging needs: the members of a put, the change of a patch.
	members        *roaring.Bitmap
	added, removed []uint32
	// revokes says that somebody may lose access by it.
	revokes bool
}

func selfOp(self api.SelfView) *op {
	return &op{kind: opSelf, raw: marshal(api.MapOp{Op: api.MapOpOpSelf, Self: &self}), revokes: !self.Approved}
}

func upsertOp(n uint32, entry []byte, fresh bool) *op {
	raw := make([]byte, 0, len(entry)+32)
	raw = append(raw, `{"op":"peer_upsert","peer":`...)
	raw = append(append(raw, entry...), '}')
	return &op{kind: opPeerUpsert, n: n, fresh: fresh, raw: raw}
}

func removeOp(n uint32) *op {
	raw := strconv.AppendUint([]byte(`{"op":"peer_remove","n":`), uint64(n), 10)
	return &op{kind: opPeerRemove, n: n, raw: append(raw, '}'), revokes: true}
}

func putOp(id string, members *roaring.Bitmap, fresh bool) *op {
	ordinals := encode(members)
	raw := marshal(api.MapOp{Op: api.MapOpOpSetPut, Set: &id, Members: &ordinals})
	return &op{kind: opSetPut, id: id, fresh: fresh, members: members, raw: raw, revokes: !fresh}
}

// patchOp takes ordinals in rising order.
func patchOp(id string, added, removed []uint32) *op {
	raw := make([]byte, 0, 96)
	raw = append(raw, `{"op":"set_patch","set":"`...)
	raw = append(raw, id...) // of base64url characters, which need no escape
	raw = append(raw, '"')
	if len(added) > 0 {
		raw = appendOrdinals(append(raw, `,"add":`...), added)
	}
	if len(removed) > 0 {
		raw = appendOrdinals(append(raw, `,"remove":`...), removed)
	}
	return &op{kind: opSetPatch, id: id, added: added, removed: removed, raw: append(raw, '}'), revokes: len(removed) > 0}
}

// appendOrdinals writes one ordinal, the usual number, without the way through a bitmap.
func appendOrdinals(raw []byte, ordinals []uint32) []byte {
	if len(ordinals) == 1 {
		raw = strconv.AppendUint(append(raw, `{"list":[`...), uint64(ordinals[0]), 10)
		return append(raw, `]}`...)
	}
	return append(raw, marshal(encode(roaring.BitmapOf(ordinals...)))...)
}

func setRemoveOp(id string) *op {
	return &op{kind: opSetRemove, id: id, raw: marshal(api.MapOp{Op: api.MapOpOpSetRemove, Set: &id}), revokes: true}
}

func ruleOp(rule *ruleView, fresh bool) *op {
	raw := make([]byte, 0, len(rule.raw)+32)
	raw = append(raw, `{"op":"rule_upsert","rule":`...)
	raw = append(append(raw, rule.raw...), '}')
	revokes := !fresh || rule.Action == api.CompiledRuleActionDrop
	return &op{kind: opRuleUpsert, id: rule.Id, fresh: fresh, raw: raw, revokes: revokes}
}

func ruleRemoveOp(id string) *op {
	return &op{kind: opRuleRemove, id: id, raw: marshal(api.MapOp{Op: api.MapOpOpRuleRemove, Id: &id}), revokes: true}
}

func routeOp(route *routeView, fresh bool) *op {
	raw := slices.Concat([]byte(`{"op":"route_upsert","route":`), route.raw, []byte{'}'})
	return &op{kind: opRouteUpsert, id: route.Id, fresh: fresh, raw: raw, revokes: !fresh}
}

func routeRemoveOp(id string) *op {
	return &op{kind: opRouteRemove, id: id, raw: marshal(api.MapOp{Op: api.MapOpOpRouteRemove, Id: &id}), revokes: true}
}

// marshal encodes values of the contract, which cannot fail.
func marshal(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("a value of the contract does not encode: %v", err))
	}
	return raw
}

// encode cannot fail either: it writes to memory.
func encode(members *roaring.Bitmap) api.Ordinals {
	ordinals, err := mapstate.EncodeOrdinals(members)
	if err != nil {
		panic(fmt.Sprintf("a set does not encode: %v", err))
	}
	return ordinals
}

func sortOps(ops []*op) {
	slices.SortFunc(ops, func(a, b *op) int {
		if a.kind != b.kind {
			return int(a.kind) - int(b.kind)
		}
		if a.n != b.n {
			return int(a.n) - int(b.n)
		}
		switch {
		case a.id < b.id:
			return -1
		case a.id > b.id:
			return 1
		}
		return 0
	})
}

package mapstate

import (
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/table"
)

// ErrGap says that a delta does not begin where the map ends. Ask for a snapshot.
var ErrGap = errors.New("the delta does not follow the map")

// Apply applies a delta. On any error the map is as it was before: ErrGap when prev is not the serial of the map,
// ErrDigest when the result has another digest than the server's, else an op that is unknown or dangles.
func (m *Map) Apply(delta api.DeltaEvent) error {
	if delta.Prev != m.Serial || delta.Serial < delta.Prev {
		return fmt.Errorf("%w: it goes from serial %d to %d, the map is at %d", ErrGap, delta.Prev, delta.Serial, m.Serial)
	}
	work := m.change()
	for i, op := range delta.Ops {
		if err := work.apply(op); err != nil {
			return fmt.Errorf("op %d (%s) of the delta to serial %d: %w", i, op.Op, delta.Serial, err)
		}
	}
	if got := work.digest.String(); got != delta.Digest {
		return fmt.Errorf("%w: it would be %s at serial %d, the server says %s", ErrDigest, got, delta.Serial, delta.Digest)
	}
	work.finish(m, delta.Serial)
	return nil
}

// A change is a map in progress. The one it begins with stays as it is until finish.
type change struct {
	self   api.SelfView
	digest Digest
	peers  *table.Edit[uint32, api.PeerEntry]
	sets   *table.Edit[string, *roaring.Bitmap]
	rules  *table.Edit[string, api.CompiledRule]
	routes *table.Edit[string, api.CompiledRoute]

	zones       *table.Edit[string, api.ZoneView]
	records     *table.Edit[string, api.RecordView]
	nameservers *table.Edit[string, api.NameserverView]

	// lenient takes items that no machine can follow as well; Faults lists them then.
	lenient bool
}

func (m *Map) change() *change {
	return &change{
		self: m.Self, digest: m.digest,
		peers: m.Peers.Edit(), sets: m.Sets.Edit(), rules: m.Rules.Edit(), routes: m.Routes.Edit(),
		zones: m.Names.Zones.Edit(), records: m.Names.Records.Edit(), nameservers: m.Names.Nameservers.Edit(),
	}
}

// finish makes the change the content of m.
func (c *change) finish(m *Map, serial int64) {
	m.Serial, m.Self, m.digest = serial, c.self, c.digest
	m.Peers, m.Sets, m.Rules, m.Routes = c.peers.Table(), c.sets.Table(), c.rules.Table(), c.routes.Table()
	m.Names = Names{c.zones.Table(), c.records.Table(), c.nameservers.Table()}
}

// take returns the fault of an item that is to be refused.
func (c *change) take(fault error) error {
	if c.lenient {
		return nil
	}
	return fault
}

// keep puts an item into one of the tables.
func keep[K comparable, V any](c *change, into *table.Edit[K, V], id K, value V, hash func(V) Digest) {
	if before, known := into.Get(id); known {
		c.digest = c.digest.Minus(hash(before))
	}
	into.Set(id, value)
	c.digest = c.digest.Plus(hash(value))
}

// drop takes what is known under an id out of one of the tables.
func drop[K comparable, V any](c *change, from *table.Edit[K, V], id *K, noun string, hash func(V) Digest) error {
	if id == nil {
		return errIncomplete
	}
	before, known := from.Get(*id)
	if !known {
		return fmt.Errorf("no %s %v is known", noun, *id)
	}
	from.Delete(*id)
	c.digest = c.digest.Minus(hash(before))
	return nil
}

func (c *change) apply(op api.MapOp) error {
	switch op.Op {
	case api.MapOpOpSelf:
		return c.setSelf(op.Self)
	case api.MapOpOpPeerUpsert:
		return c.upsertPeer(op.Peer)
	case api.MapOpOpPeerRemove:
		return c.removePeer(op.N)
	case api.MapOpOpSetPut:
		return c.putSet(op.Set, op.Members)
	case api.MapOpOpSetPatch:
		return c.patchSet(op.Set, op.Add, op.Remove)
	case api.MapOpOpSetRemove:
		return c.removeSet(op.Set)
	case api.MapOpOpRouteUpsert:
		return c.upsertRoute(op.Route)
	case api.MapOpOpRouteRemove:
		return c.removeRoute(op.Id)
	case api.MapOpOpDnsZoneUpsert:
		return c.upsertZone(op.Zone)
	case api.MapOpOpDnsZoneRemove:
		return c.removeZone(op.Id)
	case api.MapOpOpDnsRecordUpsert:
		return c.upsertRecord(op.Record)
	case api.MapOpOpDnsRecordRemove:
		return c.removeRecord(op.Id)
	case api.MapOpOpNameserverUpsert:
		return c.upsertNameserver(op.Nameserver)
	case api.MapOpOpNameserverRemove:
		return c.removeNameserver(op.Id)
	case api.MapOpOpRuleUpsert:
		return c.upsertRule(op.Rule)
	case api.MapOpOpRuleRemove:
		return c.removeRule(op.Id)
	}
	return errors.New("unknown op; this agent may be older than the control plane")
}

var errIncomplete = errors.New("a field that the op needs is absent")

func (c *change) setSelf(self *api.SelfView) error {
	if self == nil {
		return errIncomplete
	}
	c.digest = c.digest.Minus(HashSelf(c.self)).Plus(HashSelf(*self))
	c.self = *self
	return nil
}

func (c *change) upsertPeer(peer *api.PeerEntry) error {
	if peer == nil {
		return errIncomplete
	}
	keep(c, c.peers, peer.N, *peer, HashPeer)
	return nil
}

func (c *change) removePeer(n *uint32) error {
	for id, set := range c.sets.All() {
		if n != nil && set.Contains(*n) {
			return fmt.Errorf("the set %s still holds the peer %d", id, *n)
		}
	}
	return drop(c, c.peers, n, "peer", HashPeer)
}

func (c *change) putSet(id *string, members *api.Ordinals) error {
	if id == nil || members == nil {
		return errIncomplete
	}
	set, err := DecodeOrdinals(members)
	if err != nil {
		return err
	}
	if err := c.knowsAll(set); err != nil {
		return err
	}
	keep(c, c.sets, *id, set, func(set *roaring.Bitmap) Digest { return sumSet(*id, set) })
	return nil
}

func (c *change) patchSet(id *string, add, remove *api.Ordinals) error {
	if id == nil {
		return errIncomplete
	}
	set, known := c.sets.Get(*id)
	if !known {
		return fmt.Errorf("no set %s is known", *id)
	}
	added, err := DecodeOrdinals(add)
	if err != nil {
		return err
	}
	removed, err := DecodeOrdinals(remove)
	if err != nil {
		return err
	}
	if err := c.knowsAll(added); err != nil {
		return err
	}
	if added.Intersects(set) || removed.AndCardinality(set) != removed.GetCardinality() {
		return fmt.Errorf("the set %s holds what shall come, or lacks what shall go", *id)
	}
	set = set.Clone()
	set.Or(added)
	set.AndNot(removed)
	c.sets.Set(*id, set)
	c.digest = c.digest.Plus(sumMembers(*id, added)).Minus(sumMembers(*id, removed))
	return nil
}

func (c *change) removeSet(id *string) error {
	if id == nil {
		return errIncomplete
	}
	for _, rule := range c.rules.All() {
		if slices.Contains(setsOf(rule), *id) {
			return fmt.Errorf("the rule %s still names the set %s", rule.Id, *id)
		}
	}
	for _, route := range c.routes.All() {
		if slices.Contains(setsOfRoute(route), *id) {
			return fmt.Errorf("the route %s still names the set %s", route.Id, *id)
		}
	}
	return drop(c, c.sets, id, "set", func(set *roaring.Bitmap) Digest { return sumSet(*id, set) })
}

func (c *change) upsertRule(rule *api.CompiledRule) error {
	if rule == nil {
		return errIncomplete
	}
	if err := c.take(c.checkRule(*rule)); err != nil {
		return err
	}
	keep(c, c.rules, rule.Id, *rule, HashRule)
	return nil
}

func (c *change) removeRule(id *string) error { return drop(c, c.rules, id, "rule", HashRule) }

// checkRule refuses what a packet filter would not understand: it must fail here, loudly, and not in the filter.
func (c *change) checkRule(r api.CompiledRule) error {
	if !r.Direction.Valid() {
		return fmt.Errorf("the rule %s has the unknown direction %q", r.Id, r.Direction)
	}
	if _, err := RuleOf(r); err != nil {
		return err
	}
	for _, set := range setsOf(r) {
		if _, known := c.sets.Get(set); !known {
			return fmt.Errorf("the rule %s names the unknown set %s", r.Id, set)
		}
	}
	return c.checkRouted(r)
}

func (c *change) knowsAll(set *roaring.Bitmap) error {
	for ordinals := set.Iterator(); ordinals.HasNext(); {
		n := ordinals.Next()
		if _, known := c.peers.Get(n); !known {
			return fmt.Errorf("a set holds the unknown peer %d", n)
		}
	}
	return nil
}

func sumSet(id string, set *roaring.Bitmap) Digest {
	return HashSet(id).Plus(sumMembers(id, set))
}

func sumMembers(id string, set *roaring.Bitmap) Digest {
	var sum Digest
	for ordinals := set.Iterator(); ordinals.HasNext(); {
		sum = sum.Plus(HashMember(id, ordinals.Next()))
	}
	return sum
}

package mapstate

import (
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/verdict"
)

// ErrGap says that a delta does not begin where the map ends. Ask for a snapshot.
var ErrGap = errors.New("the delta does not follow the map")

// Apply applies a delta. On any error the map is as it was before: ErrGap when prev is not the serial of the map,
// ErrDigest when the result has another digest than the server's, else an op that is unknown or dangles.
func (m *Map) Apply(delta api.DeltaEvent) error {
	if delta.Prev != m.Serial || delta.Serial < delta.Prev {
		return fmt.Errorf("%w: it goes from serial %d to %d, the map is at %d", ErrGap, delta.Prev, delta.Serial, m.Serial)
	}
	work := change{Map: m, digest: m.digest}
	for i, op := range delta.Ops {
		if err := work.apply(op); err != nil {
			work.undo()
			return fmt.Errorf("op %d (%s) of the delta to serial %d: %w", i, op.Op, delta.Serial, err)
		}
	}
	if got := m.digest.String(); got != delta.Digest {
		work.undo()
		return fmt.Errorf("%w: it would be %s at serial %d, the server says %s", ErrDigest, got, delta.Serial, delta.Digest)
	}
	m.Serial = delta.Serial
	return nil
}

// A change is a delta in progress: the map, and how to take back what was done to it.
type change struct {
	*Map
	digest Digest
	back   []func()
}

func (c *change) undo() {
	for _, step := range slices.Backward(c.back) {
		step()
	}
	c.Map.digest = c.digest
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
	before := c.Self
	c.back = append(c.back, func() { c.Self = before })
	c.Map.digest = c.Map.digest.Minus(HashSelf(before)).Plus(HashSelf(*self))
	c.Self = *self
	return nil
}

func (c *change) upsertPeer(peer *api.PeerEntry) error {
	if peer == nil {
		return errIncomplete
	}
	before, known := c.Peers[peer.N]
	if known {
		c.Map.digest = c.Map.digest.Minus(HashPeer(before))
		c.back = append(c.back, func() { c.Peers[peer.N] = before })
	} else {
		c.back = append(c.back, func() { delete(c.Peers, peer.N) })
	}
	c.Peers[peer.N] = *peer
	c.Map.digest = c.Map.digest.Plus(HashPeer(*peer))
	return nil
}

func (c *change) removePeer(n *uint32) error {
	if n == nil {
		return errIncomplete
	}
	before, known := c.Peers[*n]
	if !known {
		return fmt.Errorf("no peer %d is known", *n)
	}
	for id, set := range c.Sets {
		if set.Contains(*n) {
			return fmt.Errorf("the set %s still holds the peer %d", id, *n)
		}
	}
	delete(c.Peers, *n)
	c.back = append(c.back, func() { c.Peers[before.N] = before })
	c.Map.digest = c.Map.digest.Minus(HashPeer(before))
	return nil
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
	before, known := c.Sets[*id]
	if known {
		c.Map.digest = c.Map.digest.Minus(sumSet(*id, before))
		c.back = append(c.back, func() { c.Sets[*id] = before })
	} else {
		c.back = append(c.back, func() { delete(c.Sets, *id) })
	}
	c.Sets[*id] = set
	c.Map.digest = c.Map.digest.Plus(sumSet(*id, set))
	return nil
}

func (c *change) patchSet(id *string, add, remove *api.Ordinals) error {
	if id == nil {
		return errIncomplete
	}
	set, known := c.Sets[*id]
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
	c.back = append(c.back, func() { set.AndNot(added); set.Or(removed) })
	set.Or(added)
	set.AndNot(removed)
	c.Map.digest = c.Map.digest.Plus(sumMembers(*id, added)).Minus(sumMembers(*id, removed))
	return nil
}

func (c *change) removeSet(id *string) error {
	if id == nil {
		return errIncomplete
	}
	set, known := c.Sets[*id]
	if !known {
		return fmt.Errorf("no set %s is known", *id)
	}
	for _, rule := range c.Rules {
		if slices.Contains(setsOf(rule), *id) {
			return fmt.Errorf("the rule %s still names the set %s", rule.Id, *id)
		}
	}
	for _, route := range c.Routes {
		if slices.Contains(setsOfRoute(route), *id) {
			return fmt.Errorf("the route %s still names the set %s", route.Id, *id)
		}
	}
	delete(c.Sets, *id)
	c.back = append(c.back, func() { c.Sets[*id] = set })
	c.Map.digest = c.Map.digest.Minus(sumSet(*id, set))
	return nil
}

func (c *change) upsertRule(rule *api.CompiledRule) error {
	if rule == nil {
		return errIncomplete
	}
	if err := c.checkRule(*rule); err != nil {
		return err
	}
	before, known := c.Rules[rule.Id]
	if known {
		c.Map.digest = c.Map.digest.Minus(HashRule(before))
		c.back = append(c.back, func() { c.Rules[rule.Id] = before })
	} else {
		c.back = append(c.back, func() { delete(c.Rules, rule.Id) })
	}
	c.Rules[rule.Id] = *rule
	c.Map.digest = c.Map.digest.Plus(HashRule(*rule))
	return nil
}

func (c *change) removeRule(id *string) error {
	if id == nil {
		return errIncomplete
	}
	before, known := c.Rules[*id]
	if !known {
		return fmt.Errorf("no rule %s is known", *id)
	}
	delete(c.Rules, *id)
	c.back = append(c.back, func() { c.Rules[before.Id] = before })
	c.Map.digest = c.Map.digest.Minus(HashRule(before))
	return nil
}

// checkRule refuses what a packet filter would not understand: it must fail here, loudly, and not in the filter.
func (m *Map) checkRule(r api.CompiledRule) error {
	if !r.Direction.Valid() || !r.Action.Valid() {
		return fmt.Errorf("the rule %s has the unknown direction %q or action %q", r.Id, r.Direction, r.Action)
	}
	if r.Mode != nil && !r.Mode.Valid() {
		return fmt.Errorf("the rule %s has the unknown mode %q", r.Id, *r.Mode)
	}
	if _, ok := verdict.ParseProtocol(string(r.Protocol)); !ok {
		return fmt.Errorf("the rule %s has the unknown protocol %q", r.Id, r.Protocol)
	}
	for _, ports := range portsOf(r) {
		if ports.Start < 0 || ports.End > 65535 || ports.Start > ports.End {
			return fmt.Errorf("the rule %s names no ports with %d to %d", r.Id, ports.Start, ports.End)
		}
	}
	for _, set := range setsOf(r) {
		if _, known := m.Sets[set]; !known {
			return fmt.Errorf("the rule %s names the unknown set %s", r.Id, set)
		}
	}
	return m.checkRouted(r)
}

func (m *Map) knowsAll(set *roaring.Bitmap) error {
	for ordinals := set.Iterator(); ordinals.HasNext(); {
		if n := ordinals.Next(); !m.knows(n) {
			return fmt.Errorf("a set holds the unknown peer %d", n)
		}
	}
	return nil
}

func (m *Map) knows(n uint32) bool {
	_, known := m.Peers[n]
	return known
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

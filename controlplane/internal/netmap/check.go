package netmap

import "fmt"

// check refuses changes that do not fit the account, before any of them is applied.
func (e *Engine) check(changes []Change) error {
	after := fit{e: e, peers: map[string]bool{}, groups: map[string]bool{}, checks: map[string]bool{}, taken: map[uint32]string{}, zones: map[string]bool{}, records: map[string]string{}}
	for i, c := range changes {
		if err := after.check(c); err != nil {
			return fmt.Errorf("change %d (%T) does not fit: %w", i, c, err)
		}
	}
	return nil
}

// A fit is the account as it would be: what the changes so far made true or false on top of the engine.
type fit struct {
	e             *Engine
	peers, groups map[string]bool
	checks        map[string]bool
	taken         map[uint32]string // peer id of an ordinal, empty when freed
	zones         map[string]bool
	records       map[string]string // the zone of a record
}

func (f *fit) check(c Change) error {
	switch c := c.(type) {
	case PeerPut:
		return f.putPeer(c.Peer)
	case PeerRemove:
		if p := f.e.peers[c.ID]; p != nil {
			f.taken[p.Ordinal] = ""
		}
		for n, id := range f.taken {
			if id == c.ID {
				f.taken[n] = ""
			}
		}
		f.peers[c.ID] = false
	case GroupPut:
		f.groups[c.ID] = true
		return f.members(c.ID, c.Members)
	case GroupRemove:
		f.groups[c.ID] = false
	case MembersAdd:
		return f.members(c.Group, c.Peers)
	case MembersRemove:
		return f.members(c.Group, nil)
	case CheckPut:
		f.checks[c.Check.ID] = true
	case CheckRemove:
		f.checks[c.ID] = false
	case PostureBits:
		return f.posture(c)
	case PolicyPut, PolicyRemove, SettingsPut:
	case ZonePut:
		f.zones[c.Zone.ID] = true
	case ZoneRemove:
		f.zones[c.ID] = false
	case RecordPut:
		return f.record(c.Record)
	case RecordRemove, NameserverPut, NameserverRemove, DNSSettingsPut:
	case ResourcePut:
		return checkDestination(c.Resource.ID, c.Resource.Prefix, c.Resource.Domain)
	case RouterPut:
		if c.Router.ID == "" {
			return errNoID
		}
	case RoutePut:
		return checkDestination(c.Route.ID, c.Route.Prefix, c.Route.Domains...)
	case ResourceRemove, RouterRemove, RouteRemove:
	default:
		return fmt.Errorf("unknown kind of change")
	}
	return nil
}

func (f *fit) putPeer(p Peer) error {
	if p.ID == "" {
		return fmt.Errorf("a peer has no id")
	}
	owner, moved := f.taken[p.Ordinal]
	if held := f.e.ordinals[p.Ordinal]; !moved && held != nil {
		owner = held.ID
	}
	if owner != "" && owner != p.ID {
		return fmt.Errorf("the ordinal %d of peer %s belongs to peer %s", p.Ordinal, p.ID, owner)
	}
	if f.hasPeer(p.ID) && owner != p.ID {
		return fmt.Errorf("peer %s has another ordinal than %d", p.ID, p.Ordinal)
	}
	f.peers[p.ID], f.taken[p.Ordinal] = true, p.ID
	return nil
}

func (f *fit) hasPeer(id string) bool {
	if is, told := f.peers[id]; told {
		return is
	}
	return f.e.peers[id] != nil
}

func (f *fit) posture(bits PostureBits) error {
	is, told := f.checks[bits.Check]
	if !told {
		c := f.e.checks[bits.Check]
		is = c != nil && c.known
	}
	if !is {
		return fmt.Errorf("there is no posture check %s", bits.Check)
	}
	for _, peers := range [][]string{bits.Pass, bits.Fail} {
		for _, id := range peers {
			if !f.hasPeer(id) {
				return fmt.Errorf("posture check %s would judge the unknown peer %s", bits.Check, id)
			}
		}
	}
	return nil
}

func (f *fit) members(group string, peers []string) error {
	is, told := f.groups[group]
	if !told {
		is = f.e.groups[groupName(group)]
	}
	if !is {
		return fmt.Errorf("there is no group %s", group)
	}
	for _, id := range peers {
		if !f.hasPeer(id) {
			return fmt.Errorf("group %s would hold the unknown peer %s", group, id)
		}
	}
	return nil
}

// record refuses a record without a zone and one that was in another zone: its id is never given again.
func (f *fit) record(r Record) error {
	is, told := f.zones[r.Zone]
	if !told {
		is = f.e.naming.zones[r.Zone] != nil
	}
	if !is {
		return fmt.Errorf("there is no DNS zone %s for the record %s", r.Zone, r.ID)
	}
	before, told := f.records[r.ID]
	if known := f.e.naming.records[r.ID]; !told && known != nil {
		before = known.view.Zone
	}
	if before != "" && before != r.Zone {
		return fmt.Errorf("the record %s of the DNS zone %s is in the zone %s", r.ID, r.Zone, before)
	}
	f.records[r.ID] = r.Zone
	return nil
}

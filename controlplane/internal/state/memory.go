package state

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/geo"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// allGroup is the name of the built-in group that holds every peer.
const allGroup = "All"

// An account is the desired state of one account in memory. The values in it are
// replaced, never changed in place, so a copy stays whole after the lock is gone.
type account struct {
	id     string
	engine *netmap.Engine

	mu                sync.RWMutex // guards what follows
	row               store.Account
	revision          uint64 // counts the writes that were applied
	all               string // id of the group All
	users             ordered[store.User]
	tokens            ordered[store.Token]
	keys              ordered[store.SetupKey]
	invites           ordered[store.Invite]
	groups            ordered[group]
	policies          ordered[object[policyBody]]
	identityProviders ordered[object[providerBody]]
	peers             ordered[store.Peer]
	dns               dnsMemory
	members           map[string]map[string]int64 // group -> peer -> position
	groupsOf          map[string]map[string]bool  // peer -> groups
	managed           map[string]string           // object -> program that declares it
	behind            bool                        // the engine refused a change and could not be rebuilt

	postureChecks ordered[object[postureBody]]
	meets         map[string]map[string]bool // posture check -> peers that meet it

	networks    ordered[object[networkBody]]
	resources   ordered[object[resourceBody]]
	routers     ordered[object[routerBody]]
	routes      ordered[object[routeBody]]
	resourcesOf index                // network -> its resources
	routersOf   index                // network -> its routers
	inGroup     index                // group -> network resources in it, by their position
	turns       map[string]time.Time // policy -> when a rule of it next begins or ends
	reaching    index                // group or network resource -> policies with it at an end

	listening sync.Mutex // guards listeners and held while they run
	listeners map[*func(*netmap.Update)]func(*netmap.Update)

	resolves bool // routing peers resolve the domains of resources and routes

	places *geo.Database // nil without one
	since  time.Time     // when the server took the account up

	shadow *shadow // of the last trial, nil for none; whoever holds the place of a trial touches it

	assessing sync.Mutex // held while a peer is judged and the outcome written
	present   presences
	marks     marks // only the goroutine in Run touches them
}

func newAccount(id string, engine *netmap.Engine) *account {
	return &account{
		id: id, engine: engine, since: now(), meets: map[string]map[string]bool{}, members: map[string]map[string]int64{}, groupsOf: map[string]map[string]bool{}, managed: map[string]string{},
		listeners:   map[*func(*netmap.Update)]func(*netmap.Update){},
		resourcesOf: index{}, routersOf: index{}, inGroup: index{}, reaching: index{}, turns: map[string]time.Time{},
		dns:     dnsMemory{recordsOf: index{}},
		present: presences{of: map[string]*presence{}},
	}
}

// A group in memory; its members stand in account.members.
type group struct {
	ID, Name string
	Seq      int64
	Version  int64
	Issued   string
}

// An ordered is a set of objects in the order of their creation.
type ordered[T any] struct {
	byID  map[string]T
	order []place
}

type place struct {
	seq int64
	id  string
}

// An index leads from a key to the ids of objects, each with its rank among them.
type index map[string]map[string]int64

// An entry is one place of an object in an index.
type entry struct {
	in   index
	key  string
	rank int64
}

func (x index) put(key, id string, rank int64) {
	if x[key] == nil {
		x[key] = map[string]int64{}
	}
	x[key][id] = rank
}

func (x index) remove(key, id string) {
	if delete(x[key], id); len(x[key]) == 0 {
		delete(x, key)
	}
}

// ids returns the objects under a key in the order of their rank.
func (x index) ids(key string) []string { return byRank(x[key]) }

func byRank(ranks map[string]int64) []string {
	ids := make([]string, 0, len(ranks))
	for id := range ranks {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y string) int { return cmp.Compare(ranks[x], ranks[y]) })
	return ids
}

func (o *ordered[T]) get(id string) (T, bool) { v, ok := o.byID[id]; return v, ok }

// all yields the objects in the order of their creation.
func (o *ordered[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, at := range o.order {
			if !yield(o.byID[at.id]) {
				return
			}
		}
	}
}

func (o *ordered[T]) put(id string, seq int64, v T) {
	if o.byID == nil {
		o.byID = map[string]T{}
	}
	if _, known := o.byID[id]; !known {
		at, _ := slices.BinarySearchFunc(o.order, seq, func(p place, seq int64) int { return cmp.Compare(p.seq, seq) })
		o.order = slices.Insert(o.order, at, place{seq, id})
	}
	o.byID[id] = v
}

func (o *ordered[T]) remove(id string, seq int64) {
	if _, known := o.byID[id]; !known {
		return
	}
	delete(o.byID, id)
	at, found := slices.BinarySearchFunc(o.order, seq, func(p place, seq int64) int { return cmp.Compare(p.seq, seq) })
	if found {
		o.order = slices.Delete(o.order, at, at+1)
	}
}

// A change is one object that a write put or removed: what memory and the network
// map have to learn of it. Exactly one member besides Remove is set.
type change struct {
	Remove   bool
	Account  *store.Account
	User     *store.User
	Token    *store.Token
	SetupKey *store.SetupKey
	Invite   *store.Invite
	Object   *store.Object
	Peer     *store.Peer
	Member   *store.Membership
	// Facts are those by which a peer meets other posture checks than before.
	Facts   *store.Presence
	Managed *store.Managed
	// Touched lists the groups whose version counts one more change.
	Touched []string
}

// apply changes memory and returns what the network map has to know.
func (a *account) apply(c change) ([]netmap.Change, error) {
	if c.Remove {
		delete(a.managed, c.target())
	}
	switch {
	case c.Account != nil:
		a.row = *c.Account
		return a.settings()
	case c.User != nil && c.Remove:
		a.users.remove(c.User.ID, c.User.Seq)
	case c.User != nil:
		a.users.put(c.User.ID, c.User.Seq, *c.User)
	case c.Token != nil && c.Remove:
		a.tokens.remove(c.Token.ID, c.Token.Seq)
	case c.Token != nil:
		a.tokens.put(c.Token.ID, c.Token.Seq, *c.Token)
	case c.SetupKey != nil && c.Remove:
		a.keys.remove(c.SetupKey.ID, c.SetupKey.Seq)
	case c.SetupKey != nil:
		a.keys.put(c.SetupKey.ID, c.SetupKey.Seq, *c.SetupKey)
	case c.Invite != nil && c.Remove:
		a.invites.remove(c.Invite.ID, c.Invite.Seq)
	case c.Invite != nil:
		a.invites.put(c.Invite.ID, c.Invite.Seq, *c.Invite)
	case c.Object != nil:
		return a.applyObject(*c.Object, c.Remove)
	case c.Peer != nil && c.Remove:
		a.removePeer(*c.Peer)
		return []netmap.Change{netmap.PeerRemove{ID: c.Peer.ID}}, nil
	case c.Peer != nil:
		a.peers.put(c.Peer.ID, c.Peer.Seq, *c.Peer)
		return onePeer(*c.Peer)
	case c.Facts != nil:
		return a.judge(c.Facts.PeerID), nil
	case c.Managed != nil:
		a.managed[c.Managed.ID] = c.Managed.By
	case c.Member != nil:
		return a.applyMember(*c.Member, c.Remove), nil
	}
	for _, id := range c.Touched {
		if g, ok := a.groups.get(id); ok {
			g.Version++
			a.groups.put(id, g.Seq, g)
		}
	}
	return nil, nil
}

func (a *account) settings() ([]netmap.Change, error) {
	v4, err4 := netip.ParsePrefix(a.row.Network)
	v6, err6 := netip.ParsePrefix(a.row.NetworkV6)
	if err := cmp.Or(err4, err6); err != nil {
		return nil, fmt.Errorf("network range of account %s: %w", a.id, err)
	}
	if err := json.Unmarshal([]byte(a.row.Settings), new(api.AccountSettingsRequest)); err != nil {
		return nil, fmt.Errorf("settings of account %s: %w", a.id, err)
	}
	settings := showSettings(a.row)
	told := netmap.Settings{
		Network: v4, NetworkV6: v6, DNSDomain: a.row.DNSDomain, KeyRotationDays: settings.KeyRotationDays, KeepPaths: !settings.LazyConnectionEnabled,
	}
	if settings.PostQuantumMode != api.AccountSettingsPostQuantumModeOff {
		told.PostQuantum = string(settings.PostQuantumMode)
	}
	changes := []netmap.Change{netmap.SettingsPut{Settings: told}}
	if a.resolves != settings.RoutingPeerDnsResolutionEnabled {
		a.resolves = settings.RoutingPeerDnsResolutionEnabled
		changes = append(changes, a.byDomain()...)
	}
	return changes, nil
}

// byDomain is what the network map is told of the resources and routes that are given by a domain.
func (a *account) byDomain() (changes []netmap.Change) {
	for r := range a.resources.all() {
		if _, domain := destination(r.Body.Address); domain != "" {
			changes = append(changes, a.compiledResource(r)...)
		}
	}
	for r := range a.routes.all() {
		if len(r.Body.Domains) > 0 {
			changes = append(changes, a.compiledRoute(r)...)
		}
	}
	return changes
}

func (a *account) applyObject(o store.Object, remove bool) ([]netmap.Change, error) {
	if o.Kind != store.KindGroup {
		n, ok := nounOf(o.Kind)
		if !ok {
			return nil, fmt.Errorf("object %s has the unknown kind %q", o.ID, o.Kind)
		}
		return n.apply(a, o, remove)
	}
	if remove {
		a.groups.remove(o.ID, o.Seq)
		for peer := range a.members[o.ID] {
			delete(a.groupsOf[peer], o.ID)
		}
		delete(a.members, o.ID)
		return []netmap.Change{netmap.GroupRemove{ID: o.ID}}, nil
	}
	g, err := readGroup(o)
	if err != nil {
		return nil, err
	}
	_, known := a.groups.get(o.ID)
	a.groups.put(o.ID, o.Seq, g)
	if g.Name == allGroup && g.Issued == issuedByAPI {
		a.all = g.ID
	}
	if known {
		return nil, nil // a new name is nothing to the map
	}
	a.members[o.ID] = map[string]int64{}
	return []netmap.Change{netmap.GroupPut{ID: o.ID}}, nil
}

func (a *account) applyMember(m store.Membership, remove bool) []netmap.Change {
	_, was := a.members[m.GroupID][m.PeerID]
	if remove {
		delete(a.members[m.GroupID], m.PeerID)
		delete(a.groupsOf[m.PeerID], m.GroupID)
		return []netmap.Change{netmap.MembersRemove{Group: m.GroupID, Peers: []string{m.PeerID}}}
	}
	if a.groupsOf[m.PeerID] == nil {
		a.groupsOf[m.PeerID] = map[string]bool{}
	}
	a.members[m.GroupID][m.PeerID] = m.Position
	a.groupsOf[m.PeerID][m.GroupID] = true
	if was {
		return nil // only its place in the list changed
	}
	return []netmap.Change{netmap.MembersAdd{Group: m.GroupID, Peers: []string{m.PeerID}}}
}

func (a *account) removePeer(p store.Peer) {
	for group := range a.groupsOf[p.ID] {
		delete(a.members[group], p.ID)
	}
	delete(a.groupsOf, p.ID)
	a.peers.remove(p.ID, p.Seq)
	for _, peers := range a.meets {
		delete(peers, p.ID)
	}
	a.present.forget(p.ID)
}

// memberIDs returns the peers of a group in their order.
func (a *account) memberIDs(group string) []string { return byRank(a.members[group]) }

// groupIDs returns the groups of a peer in the order of their creation.
func (a *account) groupIDs(peer string) []string {
	ids := make([]string, 0, len(a.groupsOf[peer]))
	for id := range a.groupsOf[peer] {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y string) int { return cmp.Compare(a.groups.byID[x].Seq, a.groups.byID[y].Seq) })
	return ids
}

// whole returns the account as the changes that make up its network map.
func (a *account) whole() (changes []netmap.Change, err error) {
	if changes, err = a.settings(); err != nil {
		return nil, err
	}
	for _, at := range a.peers.order {
		one, err := onePeer(a.peers.byID[at.id])
		if err != nil {
			return nil, err
		}
		changes = append(changes, one...)
	}
	for _, at := range a.groups.order {
		changes = append(changes, netmap.GroupPut{ID: at.id, Members: a.memberIDs(at.id)})
	}
	for _, n := range kinds {
		changes = append(changes, n.whole(a)...)
	}
	return changes, nil
}

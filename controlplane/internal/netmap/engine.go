package netmap

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/mapstate"
)

// ErrUnknownPeer says that the account has no such peer.
var ErrUnknownPeer = errors.New("the account has no such peer")

// ErrGone says that the logs no longer reach back to a serial. Send a snapshot.
var ErrGone = errors.New("the log does not reach back to that serial")

// defaultLogEntries is about 15 MB of log: an entry is a few pointers, the ops are shared.
const defaultLogEntries = 100_000

// A Config describes the engine of one account.
type Config struct {
	// Account is the id of the account. Required.
	Account string
	// Epoch names the history of the account's serials. Required.
	Epoch string
	// Secret keys the opaque ids of sets and rules; the same secret gives the same ids after a restart. Required,
	// at least 16 bytes.
	Secret []byte
	// Blobs keeps the parts of snapshots; several engines may share one. Nil means one of its own with 64 MiB.
	Blobs *BlobCache
	// LogEntries bounds the entries of all class logs together. Zero means 100,000.
	LogEntries int
}

// An Engine holds the maps of one account in memory. It is safe for concurrent use.
type Engine struct {
	cfg Config

	mu       sync.RWMutex // guards all below
	serial   int64
	settings Settings
	peers    map[string]*peer
	ordinals map[uint32]*peer
	approved *roaring.Bitmap
	bases    map[string]*base
	groups   map[string]bool // names of the bases that are groups of the account
	policies map[string][]*rule
	checks   map[string]*check
	// resources and routers hold the ids of the networks that they are in.
	resources, routers map[string]string
	networks           map[string]*network
	routes             map[string]Route  // as they were put
	routed             map[string]*route // by their keys, of both kinds
	naming             naming
	sets               map[string]*set // by the key of their expression
	classes            map[string]*class
	history            history
	rebuilt            int // how often Rebuild replaced everything above
}

// A peer is an enrolled machine and what only it is told.
type peer struct {
	Peer
	groups map[*base]struct{}
	class  *class
	lacks  Features // what its agent does not offer

	forms forms // what others are told

	// What it is told itself.
	self     api.SelfView
	selfHash mapstate.Digest
	floor    int64 // the serial from which on turns misses nothing
	turns    []turn
}

// New returns the engine of an empty account at serial 0.
func New(cfg Config) (*Engine, error) {
	if cfg.Account == "" || cfg.Epoch == "" || len(cfg.Secret) < 16 {
		return nil, errors.New("a network map needs an account, an epoch and a secret of at least 16 bytes")
	}
	if cfg.Blobs == nil {
		cfg.Blobs = NewBlobCache(64 << 20)
	}
	cfg.LogEntries = cmp.Or(cfg.LogEntries, defaultLogEntries)
	return &Engine{
		cfg: cfg, peers: map[string]*peer{}, ordinals: map[uint32]*peer{}, approved: roaring.New(),
		bases: map[string]*base{}, groups: map[string]bool{}, policies: map[string][]*rule{}, checks: map[string]*check{},
		resources: map[string]string{}, routers: map[string]string{}, networks: map[string]*network{}, routes: map[string]Route{}, routed: map[string]*route{},
		naming: newNaming(), sets: map[string]*set{}, classes: map[string]*class{}, history: history{limit: cfg.LogEntries},
	}, nil
}

// Load applies the changes that make up an account as it is stored, and starts its history at serial. It is for an
// empty engine; the errors are those of Apply.
func (e *Engine) Load(serial int64, changes []Change) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.peers)+len(e.groups)+len(e.policies) > 0 {
		return errors.New("a network map is loaded into an empty engine only")
	}
	_, err := e.apply(serial, changes)
	return err
}

// Apply applies the changes of one write. The serial must be greater than the one before. On an error, which means that
// the changes do not fit the account, nothing changed.
func (e *Engine) Apply(serial int64, changes ...Change) (*Update, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if serial <= e.serial {
		return nil, fmt.Errorf("changes of serial %d come after serial %d", serial, e.serial)
	}
	return e.apply(serial, changes)
}

// Rebuild replaces the account by the one that the changes make up from nothing, with logs that begin at serial. It is
// the way out when Apply refused the changes of a write that is committed: every agent is brought to the new maps by a
// snapshot. serial must not be lower than the present one. On an error nothing changed.
func (e *Engine) Rebuild(serial int64, changes []Change) (*Update, error) {
	fresh, err := New(e.cfg)
	if err != nil {
		return nil, err
	}
	if err := fresh.Load(serial, changes); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if serial < e.serial {
		return nil, fmt.Errorf("an account of serial %d comes after serial %d", serial, e.serial)
	}
	u := &Update{Serial: serial, Revokes: true, e: e}
	for id, p := range e.peers {
		if again := fresh.peers[id]; again != nil {
			fresh.offer(again, p.lacks)
		} else {
			u.removed = append(u.removed, id)
		}
	}
	u.single = slices.Collect(maps.Keys(fresh.peers))
	e.serial, e.settings, e.peers, e.ordinals, e.approved = serial, fresh.settings, fresh.peers, fresh.ordinals, fresh.approved
	e.bases, e.groups, e.policies, e.sets, e.classes = fresh.bases, fresh.groups, fresh.policies, fresh.sets, fresh.classes
	e.resources, e.routers, e.networks, e.routes, e.routed = fresh.resources, fresh.routers, fresh.networks, fresh.routes, fresh.routed
	e.checks, e.naming, e.history = fresh.checks, fresh.naming, fresh.history
	e.rebuilt++
	return u, nil
}

// Forget drops what the logs hold up to a serial. Agents whose map is older get a snapshot.
func (e *Engine) Forget(serial int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	serial = min(serial, e.serial)
	e.history.forget(serial)
	for _, p := range e.peers {
		p.forget(serial)
	}
}

// Epoch returns the name of the history of serials.
func (e *Engine) Epoch() string { return e.cfg.Epoch }

// Serial returns the serial of the last changes applied.
func (e *Engine) Serial() int64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.serial
}

// Sees reports whether the map of peer a shows peer b. A peer does not see itself, nor an unknown one.
func (e *Engine) Sees(a, b string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	from, to := e.peers[a], e.peers[b]
	return from != nil && to != nil && from != to && from.class.visible.Contains(to.Ordinal)
}

// Accessible returns the ids of the peers to which the peer may open traffic, and of the routers of its routes, in the order of their ordinals.
func (e *Engine) Accessible(peerID string) ([]string, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	reached, err := e.reach(peerID)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, reached.GetCardinality())
	for ordinals := reached.Iterator(); ordinals.HasNext(); {
		ids = append(ids, e.ordinals[ordinals.Next()].ID)
	}
	return ids, nil
}

// AccessibleCount returns how many peers Accessible would return.
func (e *Engine) AccessibleCount(peerID string) (int, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	reached, err := e.reach(peerID)
	if err != nil {
		return 0, err
	}
	return int(reached.GetCardinality()), nil
}

// reach returns the destinations of the accept rules at whose source the peer stands, and the routers that lead it
// further.
func (e *Engine) reach(peerID string) (*roaring.Bitmap, error) {
	p := e.peers[peerID]
	if p == nil {
		return nil, ErrUnknownPeer
	}
	wanted := map[string]bool{}
	for _, r := range p.class.rules {
		outward := r.Direction == api.CompiledRuleDirectionOut || r.Direction == api.CompiledRuleDirectionBoth
		if r.Action == api.CompiledRuleActionAccept && outward && r.Route == nil && !r.quiet {
			wanted[r.Destination] = true
		}
	}
	for _, r := range p.class.routes {
		if r.Routers != nil {
			for _, routers := range *r.Routers {
				wanted[routers.Set] = true
			}
		}
	}
	reached := roaring.New()
	for _, s := range p.class.sets {
		if wanted[s.id] {
			reached.Or(s.members)
		}
	}
	reached.Remove(p.Ordinal)
	return reached, nil
}

// entryOf is what an agent that lacks some features is told of another peer.
func entryOf(p Peer, lacks Features) api.PeerEntry {
	entry := api.PeerEntry{
		N: p.Ordinal, Id: p.ID, Key: p.Key, Name: p.Name, Aliases: p.Aliases, Ip: text(p.IP.IsValid(), p.IP), Ipv6: text(p.IPv6.IsValid(), p.IPv6),
	}
	if lacks&FeatureKeys == 0 {
		entry.NextKey = p.NextKey
	}
	return entry
}

// selfOf is what an agent that lacks some features is told of its own peer, but for the programs it is asked about.
func selfOf(p Peer, s Settings, lacks Features, keepsDNS bool) api.SelfView {
	self := api.SelfView{
		N: p.Ordinal, Id: p.ID, Name: p.Name, Aliases: p.Aliases, Key: p.Key, Ip: text(p.IP.IsValid(), p.IP), Ipv6: text(p.IPv6.IsValid(), p.IPv6),
		Network: text(s.Network.IsValid(), s.Network), NetworkV6: text(s.NetworkV6.IsValid(), s.NetworkV6),
		DnsDomain: s.DNSDomain, KeepsDns: keepsDNS, Approved: p.Approved,
	}
	if lacks&FeatureKeys == 0 {
		self.NextKey, self.KeyRotationDays, self.PostQuantum = p.NextKey, s.KeyRotationDays, s.PostQuantum
	}
	if lacks&FeaturePaths == 0 {
		self.KeepsPaths = s.KeepPaths
	}
	return self
}

// selfOf is what a peer is told of itself.
func (e *Engine) selfOf(p *peer) api.SelfView {
	self := selfOf(p.Peer, e.settings, p.lacks, p.keepsDNS())
	self.Processes = e.asked(p)
	return self
}

// text writes an address, and nothing for an absent one.
func text(valid bool, v fmt.Stringer) string {
	if !valid {
		return ""
	}
	return v.String()
}

// Package mapstate keeps an agent's copy of its network map: it applies snapshots and deltas, and checks their digest.
//
// Agents keep the map with it, the control plane hashes the same items and tests its engine against it; that is why it
// is shared. It is pure: no I/O, no clock, no goroutines.
//
//	snapshot_ref ── parts by SHA-256 ──> Map ──┐
//	                                           v
//	delta ── prev = Serial? ── ops one by one ──> digest equal? ──yes──> Map at the new serial
//	              │ no              │ dangling        │ no
//	              └────────> error, Map as before <───┘
//
// In a map rules name sets and routes, routes name sets, and sets name peers by ordinal; nothing names what is not there,
// at no step of a delta.
package mapstate

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/table"
	"github.com/wattlenet/wattle/internal/verdict"
)

// A Map is what one peer knows of its network. Read its fields freely; only the methods of the package may change them,
// since they keep the digest. A Map is not safe for concurrent use.
type Map struct {
	// Epoch and Serial name the point in history. A serial counts inside its epoch only.
	Epoch  string
	Serial int64
	Self   api.SelfView
	// Peers holds the visible peers by ordinal. The peer itself is among them when it stands in a set that it sees.
	Peers table.Table[uint32, api.PeerEntry]
	// Sets holds the ordinals of each visible set by its id.
	Sets table.Table[string, *roaring.Bitmap]
	// Rules holds the compiled rules by their id. Of a rule with direction in only the source set is in Sets, of one
	// with direction out only the destination set; the peer itself stands at the other end.
	Rules table.Table[string, api.CompiledRule]
	// Routes holds the routes that the peer uses or serves by their id. A rule with a route at one end is about the
	// traffic of that route.
	Routes table.Table[string, api.CompiledRoute]
	// Names is what the machine shall resolve besides the names of peers.
	Names Names

	digest Digest
}

// Features names what agents with this package understand of a map, for the request of a stream.
func Features() []string { return []string{"sets", "routes", "dns", "keys", "terms", "paths"} }

// New returns an empty map for self.
func New(epoch string, serial int64, self api.SelfView) *Map {
	return &Map{Epoch: epoch, Serial: serial, Self: self, digest: HashSelf(self)}
}

// Digest returns the digest of the map.
func (m *Map) Digest() Digest { return m.digest }

// Position returns the point in history as status reports and stream requests tell it.
func (m *Map) Position() api.MapPosition {
	return api.MapPosition{Epoch: m.Epoch, Serial: m.Serial, Digest: m.digest.String()}
}

// Clone returns a copy that shares nothing that changes. It costs next to nothing: the tables are values.
func (m *Map) Clone() *Map {
	clone := *m
	return &clone
}

// Equal reports whether both maps hold the same content at the same point in history.
func (m *Map) Equal(o *Map) bool {
	return m.Epoch == o.Epoch && m.Serial == o.Serial && m.SameContent(o)
}

// SameContent reports whether both maps hold the same content, at whatever serial.
func (m *Map) SameContent(o *Map) bool {
	return reflect.DeepEqual(m.Self, o.Self) && m.digest == o.digest && equal(m.Peers, o.Peers, EqualPeers) &&
		equal(m.Rules, o.Rules, equalRules) && equal(m.Routes, o.Routes, equalRoutes) && m.Names.equal(o.Names) &&
		equal(m.Sets, o.Sets, func(a, b *roaring.Bitmap) bool { return a.Equals(b) })
}

func equal[K comparable, V any](a, b table.Table[K, V], same func(a, b V) bool) bool {
	for range table.Diff(a, b, same) {
		return false
	}
	return true
}

// EqualPeers reports whether two entries say the same.
func EqualPeers(a, b api.PeerEntry) bool { return reflect.DeepEqual(a, b) }

func equalRules(a, b api.CompiledRule) bool {
	return a.Id == b.Id && a.Direction == b.Direction && a.Source == b.Source && a.Destination == b.Destination &&
		a.Action == b.Action && a.Protocol == b.Protocol && slices.Equal(portsOf(a), portsOf(b)) && routedEnd(a) == routedEnd(b) &&
		Monitors(a) == Monitors(b) && TermOf(a) == TermOf(b)
}

func portsOf(r api.CompiledRule) []api.PortRange {
	if r.Ports == nil {
		return nil
	}
	return *r.Ports
}

// TermOf returns when a rule counts.
func TermOf(r api.CompiledRule) verdict.Term {
	return verdict.Term{NotBefore: valueOf(r.NotBefore).UTC(), NotAfter: valueOf(r.NotAfter).UTC()}
}

// Monitors reports whether a rule judges nothing and only counts what it matches.
func Monitors(r api.CompiledRule) bool { return valueOf(r.Mode) == api.CompiledRuleModeMonitor }

// RuleOf returns a rule as the matcher knows it, its ends left open. An action,
// mode, protocol or port that does not exist is an error: a rule half understood
// is not a rule.
func RuleOf(r api.CompiledRule) (verdict.Rule, error) {
	protocol, known := verdict.ParseProtocol(string(r.Protocol))
	switch {
	case !r.Action.Valid():
		return verdict.Rule{}, fmt.Errorf("the rule %s has the unknown action %q", r.Id, r.Action)
	case r.Mode != nil && !r.Mode.Valid():
		return verdict.Rule{}, fmt.Errorf("the rule %s has the unknown mode %q", r.Id, *r.Mode)
	case !known:
		return verdict.Rule{}, fmt.Errorf("the rule %s has the unknown protocol %q", r.Id, r.Protocol)
	}
	rule := verdict.Rule{ID: r.Id, Drop: r.Action == api.CompiledRuleActionDrop, Monitor: Monitors(r), Protocol: protocol}
	for _, ports := range portsOf(r) {
		if ports.Start < 0 || ports.End > 65535 || ports.Start > ports.End {
			return verdict.Rule{}, fmt.Errorf("the rule %s names no ports with %d to %d", r.Id, ports.Start, ports.End)
		}
		rule.Ports = append(rule.Ports, verdict.PortRange{First: uint16(ports.Start), Last: uint16(ports.End)})
	}
	return rule, nil
}

// Verdict returns the rules between peers that count at a moment, for the matcher: for packets that arrive the peer itself is the
// destination, for packets that leave it is the source. Rules of routes are not among them.
func (m *Map) Verdict(at time.Time) verdict.Rules {
	rules := make([]verdict.Rule, 0, m.Rules.Len())
	for _, r := range m.InForce() {
		if routedEnd(r) != "" || !TermOf(r).Holds(at) {
			continue
		}
		rule, _ := RuleOf(r) // no error, since it is in force
		if inbound(r) {
			in := rule
			in.Source, in.Destination = m.Sets.At(r.Source), verdict.Only(m.Self.N)
			rules = append(rules, in)
		}
		if outbound(r) {
			out := rule
			out.Source, out.Destination = verdict.Only(m.Self.N), m.Sets.At(r.Destination)
			rules = append(rules, out)
		}
	}
	return verdict.New(rules)
}

// stored is how a map lies on disk.
type stored struct {
	Epoch  string             `json:"epoch"`
	Serial int64              `json:"serial"`
	Digest string             `json:"digest"`
	Self   api.SelfView       `json:"self"`
	Peers  []api.PeerEntry    `json:"peers"`
	Sets   []api.PeerSet      `json:"sets"`
	Rules  []api.CompiledRule `json:"rules"`
	// Routes is absent from maps that were stored before there were routes.
	Routes []api.CompiledRoute `json:"routes,omitempty"`
	// Zones, Records and Nameservers are absent from maps that were stored before there was DNS.
	Zones       []api.ZoneView       `json:"zones,omitempty"`
	Records     []api.RecordView     `json:"records,omitempty"`
	Nameservers []api.NameserverView `json:"nameservers,omitempty"`
}

// MarshalJSON writes the whole map in the order of ordinals and ids, so that equal maps give equal bytes.
func (m *Map) MarshalJSON() ([]byte, error) {
	s := stored{Epoch: m.Epoch, Serial: m.Serial, Digest: m.digest.String(), Self: m.Self}
	s.Peers, s.Sets, s.Rules = []api.PeerEntry{}, []api.PeerSet{}, []api.CompiledRule{}
	s.Peers = append(s.Peers, inOrder(m.Peers)...)
	for _, id := range slices.Sorted(m.Sets.Keys()) {
		members, err := EncodeOrdinals(m.Sets.At(id))
		if err != nil {
			return nil, err
		}
		s.Sets = append(s.Sets, api.PeerSet{Id: id, Members: members})
	}
	s.Rules, s.Routes = append(s.Rules, inOrder(m.Rules)...), inOrder(m.Routes)
	s.Zones, s.Records, s.Nameservers = inOrder(m.Names.Zones), inOrder(m.Names.Records), inOrder(m.Names.Nameservers)
	return json.Marshal(s)
}

// inOrder lists the values of a table in the order of its keys.
func inOrder[K cmp.Ordered, V any](t table.Table[K, V]) (list []V) {
	for _, id := range slices.Sorted(t.Keys()) {
		list = append(list, t.At(id))
	}
	return list
}

// UnmarshalJSON reads what MarshalJSON wrote and refuses a map that does not hold together or whose digest is another.
func (m *Map) UnmarshalJSON(raw []byte) error {
	var s stored
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	read := New(s.Epoch, s.Serial, s.Self)
	if err := read.fill(Content{
		Peers: s.Peers, Sets: s.Sets, Routes: s.Routes, Rules: s.Rules, Zones: s.Zones, Records: s.Records, Nameservers: s.Nameservers,
	}, true); err != nil {
		return err
	}
	if got := read.digest.String(); got != s.Digest {
		return fmt.Errorf("%w: it is %s, stored was %s", ErrDigest, got, s.Digest)
	}
	*m = *read
	return nil
}

// ErrDigest says that the content differs from what the digest stands for. The map is as it was before; ask for a
// snapshot.
var ErrDigest = errors.New("the digest of the map differs")

package netmap

import (
	"slices"

	"github.com/wattlenet/wattle/internal/mapstate"
)

// Features is what an agent understands of a map beside peers, sets and the rules between them, as a set of bits. The
// zero value is an agent of the first version.
type Features uint32

const (
	// FeatureRoutes is routes and the rules of their traffic.
	FeatureRoutes Features = 1 << iota
	// FeatureDNS is zones, records and nameservers.
	FeatureDNS
	// FeatureKeys is keys of peers that will change, and what the account wants of keys.
	FeatureKeys
	// FeatureTerms is until when rules count, and rules that judge nothing: those that monitor or whose time has not come.
	FeatureTerms
	// FeaturePaths is whether paths are kept open.
	FeaturePaths
)

// AllFeatures is what this control plane can send.
const AllFeatures = FeatureRoutes | FeatureDNS | FeatureKeys | FeatureTerms | FeaturePaths

// firstFeature is what every agent has.
const firstFeature = "sets"

var featureNames = []struct {
	feature Features
	name    string
}{
	{FeatureRoutes, "routes"},
	{FeatureDNS, "dns"},
	{FeatureKeys, "keys"},
	{FeatureTerms, "terms"},
	{FeaturePaths, "paths"},
}

// ParseFeatures reads the names of features; names that this control plane does not know are of newer agents and do not
// matter.
func ParseFeatures(names []string) (f Features) {
	for _, known := range featureNames {
		if slices.Contains(names, known.name) {
			f |= known.feature
		}
	}
	return f
}

// Names returns the names of the features, what every agent has first.
func (f Features) Names() []string {
	list := []string{firstFeature}
	for _, known := range featureNames {
		if f&known.feature != 0 {
			list = append(list, known.name)
		}
	}
	return list
}

// Offer says what the agent of a peer understands: from now on its map holds nothing else. It is no change of the
// account and has no serial: when the map differs from the one that the agent has, Resume asks for a snapshot. A peer
// whose agent never told is taken for one that understands everything. ErrUnknownPeer when the peer is gone.
func (e *Engine) Offer(peerID string, features Features) error {
	lacks := AllFeatures &^ features
	e.mu.RLock()
	p := e.peers[peerID]
	same := p != nil && p.lacks == lacks
	e.mu.RUnlock()
	if same {
		return nil // the usual case: no agent waits for the others
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if p = e.peers[peerID]; p == nil {
		return ErrUnknownPeer
	}
	e.offer(p, lacks)
	return nil
}

// offer moves a peer to the class of what it lacks. The caller holds the lock.
func (e *Engine) offer(p *peer, lacks Features) {
	if p.lacks == lacks {
		return
	}
	p.lacks = lacks
	bases := e.classBases(p)
	key := classKey(bases, lacks)
	to := e.classes[key]
	if to == nil {
		to = e.newClass(key, bases, lacks)
	}
	from := p.class
	from.peers.Remove(p.Ordinal)
	to.peers.Add(p.Ordinal)
	p.class, p.floor, p.turns = to, e.serial, nil
	p.self = e.selfOf(p)
	p.selfHash = mapstate.HashSelf(p.self)
	if from.peers.IsEmpty() {
		e.drop(from)
	}
}

package netmap

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring"

	"github.com/wattlenet/wattle/generated/api"
)

// A Snapshot is one peer's whole map as a list of shared parts.
type Snapshot struct {
	Event api.SnapshotRefEvent
	// Blobs are the parts that the event names, in the same order. Holding them keeps them readable while the map
	// moves on.
	Blobs []*Blob
}

// A part is a blob, or when blob is nil one to be: its key, and its content as it was when the snapshot was taken.
type part struct {
	key     partKey
	blob    *Blob
	content func() []byte
}

// Snapshot returns the map of a peer. Parts that other peers may see too are built once. Builds are bounded, and a
// snapshot waits for its turn, however many agents come at once: one that were sent away would only come back and ask
// again. ErrUnknownPeer when the peer is gone; the error of ctx when that ends first.
func (e *Engine) Snapshot(ctx context.Context, peerID string) (Snapshot, error) {
	e.mu.RLock()
	p := e.peers[peerID]
	if p == nil {
		e.mu.RUnlock()
		return Snapshot{}, ErrUnknownPeer
	}
	s := Snapshot{Event: api.SnapshotRefEvent{
		Type: api.SnapshotRefEventTypeSnapshotRef, Epoch: e.cfg.Epoch, Serial: e.serial,
		Digest: p.digest().String(), Self: p.self, Blobs: []api.BlobRef{},
	}}
	parts := e.parts(p.class)
	e.mu.RUnlock()
	// The parts hold what they need: building happens without the lock.
	for _, part := range parts {
		blob := part.blob
		if blob == nil {
			var err error
			if blob, err = e.cfg.Blobs.build(ctx, part.key, part.content); err != nil {
				return Snapshot{}, fmt.Errorf("wait for a part of a snapshot: %w", err)
			}
		}
		s.Blobs = append(s.Blobs, blob)
		s.Event.Blobs = append(s.Event.Blobs, blob.BlobRef)
	}
	return s, nil
}

// Blob returns a part of the peer's present snapshot by the SHA-256 of its uncompressed bytes; nil when the snapshot
// has no such part. The errors are those of Snapshot.
func (e *Engine) Blob(ctx context.Context, peerID, sha256 string) (*Blob, error) {
	s, err := e.Snapshot(ctx, peerID)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.Blobs, func(b *Blob) bool { return b.Sha256 == sha256 })
	if i < 0 {
		return nil, nil
	}
	return s.Blobs[i], nil
}

// parts lists the parts of a class's view. The caller holds the lock.
func (e *Engine) parts(c *class) []part {
	if len(c.rules)+len(c.routes) == 0 && c.naming.empty() {
		return nil
	}
	view := e.part(api.BlobRefKindView, c.key, 0, c.rulesAt, c.viewContent)
	if len(c.sets) == 0 {
		return []part{view}
	}
	return append(e.directories(c), e.part(api.BlobRefKindSets, c.key, 0, c.setsAt, c.setsContent), view)
}

// part looks a part up, or gathers what building it needs; gather runs under the lock, what it returns without.
func (e *Engine) part(kind api.BlobRefKind, owner string, chunk uint32, version int64, gather func() func() []byte) part {
	p := part{key: partKey{account: e.cfg.Account, epoch: e.cfg.Epoch, rebuilt: e.rebuilt, kind: kind, owner: owner, chunk: chunk, version: version}}
	p.blob = e.cfg.Blobs.known(p.key)
	if p.blob == nil {
		p.content = gather()
	}
	return p
}

// directories lists the entries of the visible peers, by set and chunk, so that classes which see one set share them.
// A set whose members stand in the larger sets before it brings nothing.
func (e *Engine) directories(c *class) []part {
	bySize := slices.SortedStableFunc(slices.Values(c.sets), func(a, b *set) int {
		return cmp.Compare(b.members.GetCardinality(), a.members.GetCardinality())
	})
	told := roaring.New()
	var parts []part
	for _, s := range bySize {
		if told.AndCardinality(s.members) == s.members.GetCardinality() {
			continue
		}
		told.Or(s.members)
		for first := uint64(0); first <= uint64(s.members.Maximum()); first += 1 << chunkBits {
			if !s.members.IntersectsWithInterval(first, first+1<<chunkBits) {
				continue
			}
			chunk := uint32(first >> chunkBits)
			owner, lacks := s.id, c.lacks&FeatureKeys
			if lacks != 0 {
				owner = "!" + owner
			}
			parts = append(parts, e.part(api.BlobRefKindDirectory, owner, chunk, s.chunkVersion(chunk), func() func() []byte {
				return e.directory(s, chunk, lacks)
			}))
		}
	}
	return parts
}

// directory gathers the encoded entries of a chunk for agents that lack some features.
func (e *Engine) directory(s *set, chunk uint32, lacks Features) func() []byte {
	var entries [][]byte
	ordinals := s.members.Iterator()
	for ordinals.AdvanceIfNeeded(chunk << chunkBits); ordinals.HasNext(); {
		n := ordinals.Next()
		if n>>chunkBits != chunk {
			break
		}
		entries = append(entries, e.ordinals[n].forms.of(lacks).raw)
	}
	return func() []byte { return jsonList("peers", entries) }
}

func (c *class) setsContent() func() []byte {
	ids, members := make([]string, len(c.sets)), make([]*roaring.Bitmap, len(c.sets))
	for i, s := range c.sets {
		ids[i], members[i] = s.id, s.members.Clone()
	}
	return func() []byte {
		sets := make([]api.PeerSet, len(ids))
		for i, id := range ids {
			sets[i] = api.PeerSet{Id: id, Members: encode(members[i])}
		}
		return marshal(api.SetsBlob{Sets: sets})
	}
}

func (c *class) viewContent() func() []byte {
	var rules, routes [][]byte
	for _, id := range slices.Sorted(maps.Keys(c.rules)) {
		rules = append(rules, c.rules[id].raw)
	}
	for _, id := range slices.Sorted(maps.Keys(c.routes)) {
		routes = append(routes, c.routes[id].raw)
	}
	zones, records, nameservers := c.naming.lists()
	return func() []byte {
		content := jsonList("rules", rules)
		for _, more := range []struct {
			name  string
			items [][]byte
		}{{"routes", routes}, {"zones", zones}, {"records", records}, {"nameservers", nameservers}} {
			if len(more.items) > 0 {
				content[len(content)-1] = ','
				content = append(content, jsonList(more.name, more.items)[1:]...)
			}
		}
		return content
	}
}

// jsonList writes a JSON object with one list of items that are encoded already.
func jsonList(name string, items [][]byte) []byte {
	return slices.Concat([]byte(`{"`+name+`":[`), bytes.Join(items, []byte{','}), []byte(`]}`))
}

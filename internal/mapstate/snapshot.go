package mapstate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/wattlenet/wattle/generated/api"
)

// maxBlob bounds one part of a snapshot after decompression: a directory chunk of 4,096 entries is about 1 MB.
const maxBlob = 64 << 20

// Load builds the map that a snapshot stands for. blob returns a compressed part as the control plane sent it; each is
// checked against its hash. ErrDigest when the parts together are not the map that the server means.
func Load(ref api.SnapshotRefEvent, blob func(api.BlobRef) ([]byte, error)) (*Map, error) {
	m := New(ref.Epoch, ref.Serial, ref.Self)
	var all Content
	for _, part := range ref.Blobs {
		compressed, err := blob(part)
		if err != nil {
			return nil, fmt.Errorf("read the part %s of a snapshot: %w", part.Sha256, err)
		}
		raw, err := OpenBlob(part, compressed)
		if err != nil {
			return nil, err
		}
		var directory api.DirectoryBlob
		var setList api.SetsBlob
		var view api.ViewBlob
		switch part.Kind {
		case api.BlobRefKindDirectory:
			err = json.Unmarshal(raw, &directory)
		case api.BlobRefKindSets:
			err = json.Unmarshal(raw, &setList)
		case api.BlobRefKindView:
			err = json.Unmarshal(raw, &view)
		default:
			err = fmt.Errorf("unknown kind %q; this agent may be older than the control plane", part.Kind)
		}
		if err != nil {
			return nil, fmt.Errorf("decode the part %s of a snapshot: %w", part.Sha256, err)
		}
		all.Peers, all.Sets, all.Rules = append(all.Peers, directory.Peers...), append(all.Sets, setList.Sets...), append(all.Rules, view.Rules...)
		all.Routes = append(all.Routes, valueOf(view.Routes)...)
		all.Zones, all.Records = append(all.Zones, valueOf(view.Zones)...), append(all.Records, valueOf(view.Records)...)
		all.Nameservers = append(all.Nameservers, valueOf(view.Nameservers)...)
	}
	if err := m.fill(all, true); err != nil {
		return nil, fmt.Errorf("snapshot at serial %d: %w", ref.Serial, err)
	}
	if got := m.digest.String(); got != ref.Digest {
		return nil, fmt.Errorf("%w: the snapshot at serial %d gives %s, the server says %s", ErrDigest, ref.Serial, got, ref.Digest)
	}
	return m, nil
}

// Content is all items of a map but the peer's own view, in any order.
type Content struct {
	// Peers may hold a peer several times, once for each set it is in.
	Peers  []api.PeerEntry
	Sets   []api.PeerSet
	Routes []api.CompiledRoute
	Rules  []api.CompiledRule
	// Zones come before the records that are in them.
	Zones       []api.ZoneView
	Records     []api.RecordView
	Nameservers []api.NameserverView
}

// Assemble builds a map from all of its items. It refuses items that name what is not there.
func Assemble(epoch string, serial int64, self api.SelfView, all Content) (*Map, error) {
	m := New(epoch, serial, self)
	if err := m.fill(all, false); err != nil {
		return nil, err
	}
	return m, nil
}

// fill puts the items of a whole map into an empty one. If it is lenient, Faults lists those that no machine can follow.
func (m *Map) fill(all Content, lenient bool) error {
	work := m.change()
	work.lenient = lenient
	for i := range all.Peers {
		if err := work.upsertPeer(&all.Peers[i]); err != nil {
			return err
		}
	}
	for i := range all.Sets {
		if err := work.putSet(&all.Sets[i].Id, &all.Sets[i].Members); err != nil {
			return fmt.Errorf("set %s: %w", all.Sets[i].Id, err)
		}
	}
	for i := range all.Routes {
		if err := work.upsertRoute(&all.Routes[i]); err != nil {
			return err
		}
	}
	for i := range all.Rules {
		if err := work.upsertRule(&all.Rules[i]); err != nil {
			return err
		}
	}
	if err := work.fillNames(all); err != nil {
		return err
	}
	work.finish(m, m.Serial)
	return nil
}

// OpenBlob decompresses a part of a snapshot and checks it against its hash.
func OpenBlob(part api.BlobRef, compressed []byte) ([]byte, error) {
	reader, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlob))
	if err != nil {
		return nil, fmt.Errorf("prepare to decompress a snapshot: %w", err)
	}
	defer reader.Close()
	raw, err := reader.DecodeAll(compressed, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress the part %s of a snapshot: %w", part.Sha256, err)
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != part.Sha256 {
		return nil, fmt.Errorf("the part %s of a snapshot has the hash %x; it was altered on the way", part.Sha256, sum)
	}
	return raw, nil
}

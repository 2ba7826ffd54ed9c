package control

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/wattlenet/wattle/generated/api"
)

// Choices of ours.
const (
	// parallelBlobs is how many parts of a snapshot are read at once.
	parallelBlobs = 8

	// keptBlobs bounds the bytes of parts that are kept for the next snapshot.
	keptBlobs = 4 << 20
)

// blobCache keeps the compressed parts of the last snapshot: the next one
// usually shares most of them.
type blobCache struct{ parts map[string][]byte }

func newBlobCache() *blobCache { return &blobCache{parts: map[string][]byte{}} }

func (c *blobCache) forget() { c.parts = map[string][]byte{} }

// fetch returns the parts by their hash, reading those it lacks. Their content
// is checked by who opens them.
func (c *blobCache) fetch(ctx context.Context, refs []api.BlobRef, read func(context.Context, string) ([]byte, error)) (map[string][]byte, error) {
	bodies := make([][]byte, len(refs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelBlobs)
	for i, ref := range refs {
		if kept, ok := c.parts[ref.Sha256]; ok {
			bodies[i] = kept
			continue
		}
		group.Go(func() (err error) {
			bodies[i], err = read(ctx, ref.Sha256)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all, kept, size := map[string][]byte{}, map[string][]byte{}, 0
	for i, ref := range refs {
		all[ref.Sha256] = bodies[i]
		if size += len(bodies[i]); size <= keptBlobs {
			kept[ref.Sha256] = bodies[i]
		}
	}
	c.parts = kept
	return all, nil
}

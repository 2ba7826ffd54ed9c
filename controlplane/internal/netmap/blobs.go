package netmap

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/wattlenet/wattle/generated/api"
)

// concurrentBuilds bounds how many parts are compressed at once: a build is all computing, and changes must not wait.
const concurrentBuilds = 2

// A Blob is an immutable part of snapshots.
type Blob struct {
	api.BlobRef
	// Compressed is the part under zstd (RFC 8878). It must not be changed.
	Compressed []byte
}

// A BlobCache keeps compressed parts of snapshots up to a number of bytes; the least recently used go first. It is safe
// for concurrent use.
type BlobCache struct {
	encoder *zstd.Encoder
	builds  chan struct{}

	mu      sync.Mutex // guards all below
	limit   int64
	size    int64
	parts   map[partKey]*list.Element
	recent  *list.List // of *cached, most recent first
	pending map[partKey]*pendingBuild
}

// A partKey names the content of a part before it is built: what it is a part of, and the serial of its last change.
type partKey struct {
	account, epoch string
	rebuilt        int // of the engine
	kind           api.BlobRefKind
	owner          string // set id, or class key
	chunk          uint32
	version        int64
}

type cached struct {
	key  partKey
	blob *Blob
}

// A pendingBuild is waited for by all who want the same part.
type pendingBuild struct {
	done chan struct{}
	blob *Blob
}

// NewBlobCache returns an empty cache that holds at most limit bytes.
func NewBlobCache(limit int64) *BlobCache {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(concurrentBuilds), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		panic(fmt.Sprintf("the options of the compressor are wrong: %v", err))
	}
	return &BlobCache{
		encoder: encoder, builds: make(chan struct{}, concurrentBuilds), limit: limit,
		parts: map[partKey]*list.Element{}, recent: list.New(), pending: map[partKey]*pendingBuild{},
	}
}

// Bytes returns the size of the parts in the cache.
func (c *BlobCache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// known returns a part that is in the cache, or nil.
func (c *BlobCache) known(key partKey) *Blob {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.parts[key]
	if element == nil {
		return nil
	}
	c.recent.MoveToFront(element)
	return element.Value.(*cached).blob
}

// build compresses a part once, however many ask for it at the same time. Who waits gives up when ctx ends; then
// somebody else who waits for the same part builds it.
func (c *BlobCache) build(ctx context.Context, key partKey, content func() []byte) (*Blob, error) {
	for {
		c.mu.Lock()
		wait := c.pending[key]
		if wait == nil {
			wait = &pendingBuild{done: make(chan struct{})}
			c.pending[key] = wait
			c.mu.Unlock()
			return c.lead(ctx, key, wait, content)
		}
		c.mu.Unlock()
		select {
		case <-wait.done:
			if wait.blob != nil {
				return wait.blob, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// lead builds a part for all who wait for mine; the blob stays nil when ctx ends before its turn.
func (c *BlobCache) lead(ctx context.Context, key partKey, mine *pendingBuild, content func() []byte) (*Blob, error) {
	defer close(mine.done)
	select {
	case c.builds <- struct{}{}:
		raw := content()
		sum := sha256.Sum256(raw)
		compressed := c.encoder.EncodeAll(raw, make([]byte, 0, len(raw)/3+64))
		<-c.builds
		mine.blob = &Blob{
			BlobRef:    api.BlobRef{Sha256: hex.EncodeToString(sum[:]), Kind: key.kind, Bytes: int64(len(compressed))},
			Compressed: compressed,
		}
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, key)
	if mine.blob == nil {
		return nil, ctx.Err()
	}
	c.keep(key, mine.blob)
	return mine.blob, nil
}

// keep adds a part and lets go of the oldest beyond the limit. The caller holds mu.
func (c *BlobCache) keep(key partKey, blob *Blob) {
	if c.parts[key] != nil {
		return
	}
	c.parts[key] = c.recent.PushFront(&cached{key, blob})
	c.size += blob.Bytes
	for c.size > c.limit && c.recent.Len() > 1 {
		oldest := c.recent.Remove(c.recent.Back()).(*cached)
		delete(c.parts, oldest.key)
		c.size -= oldest.blob.Bytes
	}
}

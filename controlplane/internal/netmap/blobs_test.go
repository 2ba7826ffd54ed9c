package netmap

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/wattlenet/wattle/generated/api"
)

// TestBuildsWaitTheirTurn fills every place of a builder: who waits leaves when its context ends, and the next one that
// wants the same part builds it.
func TestBuildsWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := NewBlobCache(1 << 20)
		for range concurrentBuilds {
			cache.builds <- struct{}{}
		}
		key := partKey{kind: api.BlobRefKindView, owner: "c"}
		type answer struct {
			blob *Blob
			err  error
		}
		ask := func(ctx context.Context) chan answer {
			got := make(chan answer, 1)
			go func() {
				blob, err := cache.build(ctx, key, func() []byte { return []byte("content") })
				got <- answer{blob, err}
			}()
			synctest.Wait()
			return got
		}
		impatient, leave := context.WithCancel(t.Context())
		first, second, third := ask(impatient), ask(t.Context()), ask(impatient)
		leave()
		synctest.Wait()
		for _, gone := range []chan answer{first, third} {
			if got := <-gone; !errors.Is(got.err, context.Canceled) || got.blob != nil {
				t.Error("who left was told", got.err)
			}
		}
		<-cache.builds
		if got := <-second; got.err != nil || got.blob == nil || cache.known(key) != got.blob {
			t.Error("who stayed was told", got.err)
		}
		if len(cache.pending) != 0 {
			t.Error("a build is left")
		}
	})
}

func TestSnapshotWaitsWithItsContext(t *testing.T) {
	e := small(t, simplePolicy("p", Rule{Sources: []string{"all"}, Destinations: []string{"all"}}))
	for range concurrentBuilds {
		e.cfg.Blobs.builds <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Snapshot(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Error("a snapshot without a place:", err)
	}
	<-e.cfg.Blobs.builds
	if _, err := e.Snapshot(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

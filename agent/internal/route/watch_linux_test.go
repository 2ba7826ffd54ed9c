package route

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestBurstIsOneChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		events := make(chan struct{}, 1)
		changes := 0
		done := make(chan struct{})
		go func() { settled(ctx, events, func() { changes++ }); close(done) }()
		for range 5 {
			events <- struct{}{}
			synctest.Wait()
			if len(events) > 0 {
				<-events
			}
			time.Sleep(settle / 10)
		}
		time.Sleep(2 * settle)
		synctest.Wait()
		cancel()
		<-done
		if changes != 1 {
			t.Errorf("%d changes, want 1", changes)
		}
	})
}

func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, "wt0", func() {}) }()
	cancel()
	if err := <-done; err != nil {
		t.Skipf("SKIPPED: no netlink here: %v", err)
	}
}

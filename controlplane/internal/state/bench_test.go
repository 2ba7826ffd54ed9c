package state

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/generated/api"
)

// BenchmarkCreateGroup is the write path without HTTP: callers share commits.
func BenchmarkCreateGroup(b *testing.B) {
	for _, callers := range []int{1, 10, 32} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			f := fresh(b)
			var n atomic.Int64
			many(b, callers, func() error {
				_, err := f.CreateGroup(b.Context(), f.owner, api.GroupRequest{Name: fmt.Sprint("g", n.Add(1))})
				return err
			})
		})
	}
}

// BenchmarkEnroll is the whole transaction of one joining machine.
func BenchmarkEnroll(b *testing.B) {
	for _, callers := range []int{1, 32} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			f := fresh(b)
			many(b, callers, func() error {
				_, err := f.Enroll(b.Context(), auth.Principal{}, request(f.network.ReusableSetupKey, "m"), somewhere)
				return err
			})
		})
	}
}

// many runs fn b.N times from a number of goroutines.
func many(b *testing.B, callers int, fn func() error) {
	b.Helper()
	work := make(chan struct{})
	done := make(chan error, callers)
	b.ResetTimer()
	for range callers {
		go func() {
			var last error
			for range work {
				if err := fn(); err != nil {
					last = err
				}
			}
			done <- last
		}()
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	for range callers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

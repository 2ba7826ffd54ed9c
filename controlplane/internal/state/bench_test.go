package state

import (
	"errors"
	"fmt"
	"sync"
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

// BenchmarkPreview tries a new policy in a network of 10,000 machines, 100 groups
// and 200 policies.
func BenchmarkPreview(b *testing.B) {
	const machines, groups, policies = 10_000, 100, 200
	f := fresh(b)
	var queue atomic.Int64
	var all sync.WaitGroup
	for range 64 { // they share commits
		all.Go(func() {
			for queue.Add(1) <= machines {
				if _, err := f.Enroll(b.Context(), auth.Principal{}, request(f.network.ReusableSetupKey, "m"), somewhere); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	var members []string
	for _, at := range f.accounts[f.owner.AccountID].peers.order {
		members = append(members, at.id)
	}
	for g := range groups {
		f.group(fmt.Sprint("g", g), members[g*machines/groups:(g+1)*machines/groups]...)
	}
	policy := func(n int) api.PolicyRequest {
		from, to := fmt.Sprint("g", n%groups), fmt.Sprint("g", (n*7+1)%groups)
		return api.PolicyRequest{Name: fmt.Sprint("p", n), Rules: []api.PolicyRuleRequest{{Name: "r", Sources: ids(from), Destinations: ids(to)}}}
	}
	for n := range policies {
		must(f.CreatePolicy(b.Context(), f.owner, policy(n)))(b)
	}
	var previewed *Previewed
	for b.Loop() {
		if _, err := f.CreatePolicy(Preview(b.Context()), f.owner, policy(policies+5)); !errors.As(err, &previewed) {
			b.Fatal(err)
		}
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

package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleepIsAJumpOfTheWallClock(t *testing.T) {
	for _, c := range []struct {
		name string
		jump time.Duration
		want int
	}{
		{"an hour", time.Hour, 1},
		{"as little as counts", sleepLeast + time.Millisecond, 1},
		{"a clock that is corrected", 5 * time.Second, 0},
		{"a clock that is set back", -time.Hour, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var ahead atomic.Int64 // of the wall clock, in nanoseconds
				told := make(chan time.Duration, 10)
				done := make(chan struct{})
				go func() {
					defer close(done)
					watchSleep(ctx, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }, func(d time.Duration) { told <- d })
				}()
				time.Sleep(time.Hour) // a machine that is awake
				synctest.Wait()
				if len(told) != 0 {
					t.Errorf("slept %v in an hour awake", <-told)
				}
				ahead.Store(int64(c.jump))
				time.Sleep(time.Minute)
				cancel()
				<-done
				close(told)
				var slept []time.Duration
				for d := range told {
					slept = append(slept, d)
				}
				if len(slept) != c.want || c.want == 1 && (slept[0]-c.jump).Abs() > time.Millisecond {
					t.Errorf("slept %v, want %d sleeps of %v", slept, c.want, c.jump)
				}
			})
		})
	}
}

// TestSleepOfTheProcessAlone: a process that is frozen finds later that both
// clocks have gone on, and so does one that is so for less than counts.
func TestSleepOfTheProcessAlone(t *testing.T) {
	for frozen, want := range map[time.Duration]time.Duration{time.Minute: time.Minute, sleepLeast / 2: 0} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var freeze atomic.Int64 // nanoseconds
			var slept time.Duration
			done := make(chan struct{})
			go func() {
				defer close(done)
				watchSleep(ctx, func() time.Time {
					time.Sleep(time.Duration(freeze.Swap(0)))
					return time.Now()
				}, func(d time.Duration) { slept += d })
			}()
			time.Sleep(time.Minute)
			freeze.Store(int64(frozen))
			time.Sleep(time.Hour)
			cancel()
			<-done
			if slept != want {
				t.Errorf("frozen for %s, slept %s", frozen, slept)
			}
		})
	}
}

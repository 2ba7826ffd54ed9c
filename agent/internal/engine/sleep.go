package engine

import (
	"context"
	"time"
)

// Choices of ours.
const (
	// sleepLook is how often the two clocks are compared.
	sleepLook = 2 * time.Second

	// sleepLeast is how long nothing of this process runs before that counts as a
	// sleep: what others keep for this machine (mappings, channels, sessions) may
	// have ended. A clock that is set by more costs a few packets.
	sleepLeast = 10 * time.Second
)

// watchSleep calls woke when the machine has slept, or this process was stopped,
// until ctx ends. While a machine sleeps the monotonic clock stands still, on
// every system that we run on, and with it all timers of this process; the wall
// clock, which wall reads, goes on. A process that is frozen, or whose virtual
// machine is, finds that both have gone on, or one of them.
func watchSleep(ctx context.Context, wall func() time.Time, woke func(slept time.Duration)) {
	ticker := time.NewTicker(sleepLook)
	defer ticker.Stop()
	lastWall, last := wall().Round(0), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		nowWall, now := wall().Round(0), time.Now()
		slept := max(nowWall.Sub(lastWall), now.Sub(last)) - sleepLook
		lastWall, last = nowWall, now
		if slept > sleepLeast {
			woke(slept)
		}
	}
}

// woke renews what did not outlive a sleep: the rules of that time, sessions and paths to peers, the
// allocation on the relay, and the stream from the control plane.
func (l *link) woke(slept time.Duration) {
	l.log.Info("machine has slept", "for", slept.Round(time.Second).String())
	l.applyAgain() // the time of a rule may be over
	l.machine.Paths.Woke()
	l.session.Renew()
}

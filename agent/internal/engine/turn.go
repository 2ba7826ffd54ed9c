package engine

import "time"

// turnLook is how often the clock is looked at while rules wait for their time to
// begin or to end: timers of the process do not see it being set.
const turnLook = 30 * time.Second

// untilTurn is how long to wait until a rule in force ends by the clock of this
// machine, or one that is not begins; at most turnLook. Access ends that way
// while the control plane is away.
func (l *link) untilTurn() time.Duration {
	_, wanted, _, _ := l.snapshot()
	if wanted == nil || wanted.turn.IsZero() {
		return turnLook
	}
	return min(turnLook, wanted.turn.Sub(l.wall()))
}

package rest

import (
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Constants we chose.
const (
	// DefaultRate lets Terraform create a thousand objects without a pause
	// and still keeps one runaway script from taking the whole server.
	DefaultRate = 1000

	// burstSeconds is how many seconds' worth of requests may come at once.
	burstSeconds = 5

	// maxCallers bounds the table of callers.
	maxCallers = 100_000
)

// rateLimit gives every caller its own allowance of requests.
type rateLimit struct {
	perSecond float64

	mu      sync.Mutex // guards callers
	callers map[string]*rate.Limiter
}

func newRateLimit(perSecond float64) *rateLimit {
	return &rateLimit{perSecond: perSecond, callers: map[string]*rate.Limiter{}}
}

// take uses one request of a caller's allowance. It returns how long the
// caller has to wait when none is left.
func (l *rateLimit) take(caller string, now time.Time) time.Duration {
	if l.perSecond <= 0 {
		return 0
	}
	reservation := l.limiter(caller, now).ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

func (l *rateLimit) limiter(caller string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, known := l.callers[caller]
	if known {
		return limiter
	}
	burst := max(1, int(l.perSecond*burstSeconds))
	if len(l.callers) >= maxCallers { // whoever has his whole allowance loses nothing
		maps.DeleteFunc(l.callers, func(_ string, idle *rate.Limiter) bool { return idle.TokensAt(now) >= float64(burst) })
		if len(l.callers) >= maxCallers {
			clear(l.callers)
		}
	}
	limiter = rate.NewLimiter(rate.Limit(l.perSecond), burst)
	l.callers[caller] = limiter
	return limiter
}

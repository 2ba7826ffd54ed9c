package signaling

import (
	"sync"
	"time"
)

// sweepEvery is how many new names a limiter takes before it forgets those at rest.
const sweepEvery = 1024

// A limiter is a token bucket for each name.
type limiter struct {
	perSecond, burst float64

	mu      sync.Mutex // guards all below
	buckets map[string]bucket
	fresh   int
}

// A bucket held that many tokens at that time.
type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(perSecond, burst float64) *limiter {
	return &limiter{perSecond: perSecond, burst: burst, buckets: map[string]bucket{}}
}

// take uses a token of the name. When there is none it returns how long until there is.
func (l *limiter) take(name string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[name]
	if !known {
		l.sweep(now)
		b = bucket{l.burst, now}
	}
	b = l.filled(b, now)
	if b.tokens < 1 {
		l.buckets[name] = b
		return max(time.Duration((1-b.tokens)/l.perSecond*float64(time.Second)), time.Millisecond)
	}
	b.tokens--
	l.buckets[name] = b
	return 0
}

func (l *limiter) filled(b bucket, now time.Time) bucket {
	return bucket{min(l.burst, b.tokens+now.Sub(b.at).Seconds()*l.perSecond), now}
}

// sweep forgets full buckets now and then: they are as good as new.
func (l *limiter) sweep(now time.Time) {
	l.fresh++
	if l.fresh < sweepEvery {
		return
	}
	l.fresh = 0
	for name, b := range l.buckets {
		if l.filled(b, now).tokens >= l.burst {
			delete(l.buckets, name)
		}
	}
}

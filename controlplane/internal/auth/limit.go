package auth

import (
	"net/netip"
	"sync"
	"time"
)

// Bounds of the tables, so that no flood of requests can fill the memory.
const (
	maxUsedTokens = 1 << 20
	maxAddresses  = 100_000
)

// usedTokens remembers agent tokens until they end. Two generations take turns:
// whatever is in the older one has ended when the younger one becomes old, since
// no token lives longer than a generation.
type usedTokens struct {
	mu      sync.Mutex // guards the fields below
	young   map[string]struct{}
	old     map[string]struct{}
	turning time.Time // when young becomes old
}

func newUsedTokens() *usedTokens {
	return &usedTokens{young: map[string]struct{}{}, old: map[string]struct{}{}}
}

const tokenGeneration = MaxTokenLife + 2*clockLeeway

// claim reports whether the token is used for the first time, and remembers
// it until expires at least.
func (u *usedTokens) claim(token string, expires, now time.Time) bool {
	if expires.After(now.Add(tokenGeneration)) {
		return false // checkTimes lets no such token through
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !now.Before(u.turning) || len(u.young) >= maxUsedTokens {
		if !now.Before(u.turning.Add(tokenGeneration)) {
			clear(u.young) // nothing happened for a whole generation
		}
		u.old, u.young = u.young, map[string]struct{}{}
		u.turning = now.Add(tokenGeneration)
	}
	_, inYoung := u.young[token]
	_, inOld := u.old[token]
	if inYoung || inOld {
		return false
	}
	u.young[token] = struct{}{}
	return true
}

// failureLimit counts refused credentials by address.
type failureLimit struct {
	perMinute int

	mu       sync.Mutex // guards failures
	failures map[netip.Prefix]window
}

// A window counts from its begin for one minute.
type window struct {
	begin time.Time
	count int
}

func newFailureLimit(perMinute int) *failureLimit {
	return &failureLimit{perMinute: perMinute, failures: map[netip.Prefix]window{}}
}

// count adds a failure and returns how long the address has to wait, zero when
// it is within its limit.
func (l *failureLimit) count(remote netip.Addr, now time.Time) time.Duration {
	if l.perMinute < 0 {
		return 0
	}
	origin := Origin(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	w, known := l.failures[origin]
	if !known && len(l.failures) >= maxAddresses {
		l.forget(now)
	}
	if end := w.begin.Add(time.Minute); !known || !now.Before(end) {
		w = window{begin: now}
	}
	w.count++
	l.failures[origin] = w
	if w.count <= l.perMinute {
		return 0
	}
	return w.begin.Add(time.Minute).Sub(now)
}

// forget drops the windows that are over, or all when none is.
func (l *failureLimit) forget(now time.Time) {
	for origin, w := range l.failures {
		if !now.Before(w.begin.Add(time.Minute)) {
			delete(l.failures, origin)
		}
	}
	if len(l.failures) >= maxAddresses {
		clear(l.failures)
	}
}

// Origin is what counts as one address: an IPv4 address or an IPv6 /64, since
// one subscriber commands all of a /64.
func Origin(remote netip.Addr) netip.Prefix {
	remote = remote.Unmap().WithZone("")
	bits := 64
	if remote.Is4() {
		bits = 32
	}
	prefix, err := remote.Prefix(bits)
	if err != nil { // no address: all such callers count as one
		return netip.Prefix{}
	}
	return prefix
}

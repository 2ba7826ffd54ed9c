package session

import (
	"maps"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/netmap"
)

// The coalescing window of an account. The first change after a quiet time goes at once; while changes keep coming the
// window grows, so that a burst of a thousand writes is a few deltas.
const (
	shortestWindow = 50 * time.Millisecond
	longestWindow  = 250 * time.Millisecond
)

// A pace holds back the streams of an account while a window is open:
//
//	quiet ──change: wake──> window 50 ms ──changes inside: wake at its end──> window doubles, up to 250 ms
//	  ^                          │ none inside                                      │ none inside
//	  └──────────────────────────┴──────────────────────────────────────────────────┘
//
// It is guarded by the mu of Sessions.
type pace struct {
	running bool
	window  time.Duration
	timer   *time.Timer
	waiting map[string]struct{} // peers to wake at the end of the window
}

// holds takes an update into an open window and reports whether there is one.
func (p *pace) holds(update *netmap.Update) bool {
	if !p.running {
		return false
	}
	for peer := range update.Peers() {
		p.waiting[peer] = struct{}{}
	}
	return true
}

func (s *Sessions) startWindow(accountID string, p *pace) {
	p.running, p.window = true, shortestWindow
	p.timer = time.AfterFunc(p.window, func() { s.endWindow(accountID, p) })
}

// endWindow wakes who waits and opens the next window, or ends the pace when the account was quiet.
func (s *Sessions) endWindow(accountID string, p *pace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if len(p.waiting) == 0 {
		p.running = false
		delete(s.paces, accountID)
		return
	}
	s.wake(maps.Keys(p.waiting))
	clear(p.waiting)
	p.window = min(2*p.window, longestWindow)
	p.timer.Reset(p.window)
}

func (p *pace) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}

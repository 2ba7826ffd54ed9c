package engine

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/wattlenet/wattle/internal/mapstate"
)

// Choices of ours.
const (
	// retrySave is how long after a failure the map is written again.
	retrySave = 5 * time.Second

	// saveInterval is the time between two writes of a map that changes all the time.
	// The first saveBurst are not held up: an agent that is killed soon after it has
	// started leaves the map that it worked with.
	saveInterval = time.Second
	saveBurst    = 4
)

// saveNewest keeps the map for the next start, the newest one also at the end.
func (l *link) saveNewest(ctx context.Context) {
	pace := rate.NewLimiter(rate.Every(saveInterval), saveBurst)
	m := l.loaded
	retry := time.NewTimer(0)
	retry.Stop()
	for ended := false; !ended; {
		saved := true
		select {
		case <-ctx.Done():
			ended = true
		case next := <-l.saves:
			if next == m {
				continue // applied again: it is on disk, or retry will write it
			}
			m = next
			saved = l.save(m)
		case <-retry.C:
			saved = l.save(m)
		}
		if retry.Stop(); !saved {
			retry.Reset(retrySave)
		}
		if ended {
			break
		}
		ended = pace.Wait(ctx) != nil // its only error is the end of ctx
	}
	select {
	case next := <-l.saves:
		if next != m {
			l.save(next)
		}
	default:
	}
}

// save keeps a map, and reports whether it is on disk.
func (l *link) save(m *mapstate.Map) bool {
	raw, err := m.MarshalJSON()
	if err == nil {
		err = l.store.SaveMap(raw)
	}
	unsaved := ""
	if err != nil {
		l.log.Error("network map not kept for the next start", "error", err)
		unsaved = fmt.Sprintf("the network map is not kept, and the next start needs the control plane: %v", err)
	}
	l.mu.Lock()
	changed := l.unsaved != unsaved
	l.unsaved = unsaved
	l.mu.Unlock()
	if changed {
		l.changed()
	}
	return err == nil
}

package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/wattlenet/wattle/internal/mapstate"
)

// Choices of ours.
const (
	// retrySave is how long after a failure the map is written again.
	retrySave = 5 * time.Second

	// saveInterval is the least time between two writes of the map.
	saveInterval = time.Second
)

// saveNewest keeps the map for the next start, the newest one also at the end.
func (l *link) saveNewest(ctx context.Context) {
	var last time.Time
	var m *mapstate.Map
	retry := time.NewTimer(0)
	retry.Stop()
	for ended := false; !ended; {
		saved := true
		select {
		case <-ctx.Done():
			ended = true
		case m = <-l.saves:
			saved = l.save(m)
			last = time.Now()
		case <-retry.C:
			saved = l.save(m)
		}
		if retry.Stop(); !saved {
			retry.Reset(retrySave)
		}
		if ended {
			break
		}
		pause := time.NewTimer(time.Until(last.Add(saveInterval)))
		select {
		case <-ctx.Done():
			ended = true
		case <-pause.C:
		}
		pause.Stop()
	}
	select {
	case m := <-l.saves:
		l.save(m)
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

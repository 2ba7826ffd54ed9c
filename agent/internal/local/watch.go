package local

import (
	"encoding/json"
	"net/http"
	"reflect"
	"time"
)

// watchInterval is how often what nobody announces is looked at: paths, round
// trips and counters.
const watchInterval = time.Second

// watchStatus answers with the status, and again whenever it is another one,
// until the caller goes.
func (s *Server) watchStatus(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines, flush := json.NewEncoder(w), http.NewResponseController(w)
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	var told *Status
	for {
		change := s.config.Daemon.Watch()
		status := s.config.Daemon.Status(r.Context())
		if told == nil || !reflect.DeepEqual(*told, status) {
			if lines.Encode(status) != nil || flush.Flush() != nil {
				return // the caller has gone
			}
			told = &status
		}
		select {
		case <-r.Context().Done():
			return
		case <-change:
		case <-ticker.C:
		}
	}
}

package rest

import (
	"fmt"
	"net/http"
	"time"
)

// lineDeadline is how long a line may take to leave. A dead client frees its
// memory after it; a slow one gets its changes coalesced meanwhile.
const lineDeadline = 20 * time.Second

// streamType is the media type of newline-delimited JSON.
const streamType = "application/x-ndjson"

// A streamAnswer writes a response line by line. The generated response would
// copy a reader instead, which holds lines back until a buffer is full.
type streamAnswer func(w http.ResponseWriter) error

func (streamAnswer) unencoded() {}

// VisitStreamAgentResponse writes the stream until it ends.
func (a streamAnswer) VisitStreamAgentResponse(w http.ResponseWriter) error { return a(w) }

// A lineWriter sends each line at once. It is used by one goroutine.
type lineWriter struct {
	response   http.ResponseWriter
	controller *http.ResponseController
	begun      bool
}

func newLineWriter(w http.ResponseWriter) *lineWriter {
	return &lineWriter{response: w, controller: http.NewResponseController(w)}
}

// WriteLine sends one line, which ends with a newline, and returns when it has
// left the server. The first line brings the header along.
func (l *lineWriter) WriteLine(line []byte) error {
	if err := l.controller.SetWriteDeadline(time.Now().Add(lineDeadline)); err != nil {
		return fmt.Errorf("set the deadline of a line: %w", err)
	}
	if !l.begun {
		l.begin()
	}
	if _, err := l.response.Write(line); err != nil {
		return fmt.Errorf("write a line: %w", err)
	}
	if err := l.controller.Flush(); err != nil {
		return fmt.Errorf("flush a line: %w", err)
	}
	// HTTP/2 ends a stream whose deadline passes even when nothing is being
	// written, so none may run between two lines.
	if err := l.controller.SetWriteDeadline(time.Time{}); err != nil {
		return fmt.Errorf("clear the deadline of a line: %w", err)
	}
	return nil
}

func (l *lineWriter) begin() {
	l.begun = true
	header := l.response.Header()
	header.Set("Content-Type", streamType)
	header.Set("Cache-Control", "no-store, no-transform") // proxies must not hold or compress lines
	header.Set("X-Accel-Buffering", "no")                 // the same for nginx
	l.response.WriteHeader(http.StatusOK)
}

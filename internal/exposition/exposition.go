// Package exposition tells Prometheus what a program counts, in the text
// format (version 0.0.4).
package exposition

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A Text collects metrics. The zero value is empty.
type Text struct {
	text strings.Builder
}

// A Source adds what it counts to a text.
type Source func(*Text)

// Family begins a metric; its series follow before the next one begins. Kind is
// gauge or counter.
func (t *Text) Family(name, kind, help string) Family {
	t.write("# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n")
	return Family{t, name}
}

// String returns what was collected.
func (t *Text) String() string { return t.text.String() }

func (t *Text) write(parts ...string) {
	for _, part := range parts {
		t.text.WriteString(part)
	}
}

// A Family is one metric with its series.
type Family struct {
	text *Text
	name string
}

// labelValue escapes as the format wants.
var labelValue = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// Add writes a series; labels are names and values in turn.
func (f Family) Add(value float64, labels ...string) {
	f.text.write(f.name)
	if len(labels) > 0 {
		var parts []string
		for pair := range slices.Chunk(labels, 2) {
			parts = append(parts, pair[0]+`="`+labelValue.Replace(pair[1])+`"`)
		}
		f.text.write("{", strings.Join(parts, ","), "}")
	}
	f.text.write(" ", strconv.FormatFloat(value, 'g', -1, 64), "\n")
}

// Handler answers with the figures of the moment.
func Handler(sources ...Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var text Text
		for _, source := range sources {
			source(&text)
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, text.String()) // the reader has gone
	})
}

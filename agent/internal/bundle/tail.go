// Package bundle packs what helps to find a fault, with what must stay secret taken out.
package bundle

import (
	"bytes"
	"sync"
)

// tailSize bounds the log that is kept, in bytes.
const tailSize = 1 << 20

// A Tail keeps the newest lines that were written to it. Its zero value is empty.
type Tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

// Write keeps p; it never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > 2*tailSize { // seldom, so that a line costs no copy
		t.text = append([]byte(nil), newest(t.text)...)
	}
	return len(p), nil
}

// newest is the end of a text, from the begin of a line.
func newest(text []byte) []byte {
	if len(text) <= tailSize {
		return text
	}
	text = text[len(text)-tailSize:]
	if _, rest, found := bytes.Cut(text, []byte("\n")); found {
		return rest
	}
	return text
}

// String returns the newest lines.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(newest(t.text))
}

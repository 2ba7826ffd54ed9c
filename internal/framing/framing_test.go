package framing

import (
	"bytes"
	"errors"
	"testing"
)

func TestLength(t *testing.T) {
	for name, test := range map[string]struct {
		head []byte
		want int
		err  error
	}{
		"binding request":     {[]byte{0x00, 0x01, 0x00, 0x00}, 20, nil},
		"longest message":     {[]byte{0x00, 0x01, 0xff, 0xfc}, 65552, nil},
		"unaligned message":   {[]byte{0x00, 0x01, 0x00, 0x03}, 0, ErrNotTURN},
		"empty channel":       {[]byte{0x40, 0x00, 0x00, 0x00}, 4, nil},
		"padded channel":      {[]byte{0x40, 0x00, 0x00, 0x05}, 12, nil},
		"longest channel":     {[]byte{0x4f, 0xff, 0xff, 0xff}, 65540, nil},
		"something like HTTP": {[]byte("\xc3\xa9xx"), 0, ErrNotTURN},
	} {
		got, err := Length(test.head)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %d, %v, want %d, %v", name, got, err, test.want, test.err)
		}
	}
}

// Beyond its limit a queue drops the oldest data, in whole frames and never
// control, and what is left keeps its order.
func TestQueueDropsOldestData(t *testing.T) {
	channel := func(b byte) (head, body []byte) { return []byte{0x40, 0, 0, 254}, bytes.Repeat([]byte{b}, 254) } // 258, padded to 260
	message := append([]byte{0x01, 0x04, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	q := NewQueue(3 * chunkSize)
	dropped, pushed := q.Push(nil, message, true), 0
	for range 4 {
		for range chunkSize / 260 {
			head, body := channel(byte(pushed))
			dropped += q.Push(head, body, false)
			pushed++
		}
	}
	if dropped != chunkSize/260 {
		t.Fatalf("%d frames were dropped, want those of one chunk, %d", dropped, chunkSize/260)
	}
	chunks, open := q.take(nil)
	if !open || !bytes.Equal(chunks[0].bytes, message) {
		t.Fatalf("the first chunk is not the message (open: %t)", open)
	}
	next := dropped
	for _, c := range chunks[1:] {
		for rest := c.bytes; len(rest) > 0; rest = rest[260:] {
			head, body := channel(byte(next))
			if !bytes.Equal(rest[:260], append(append(head, body...), 0, 0)) {
				t.Fatalf("frame %d is % x…", next, rest[:8])
			}
			next++
		}
	}
	if next != pushed {
		t.Errorf("%d frames are left, want %d", next-dropped, pushed-dropped)
	}
	q.Close()
	if _, open := q.take(nil); open {
		t.Error("a closed queue gives frames")
	}
	if q.Push(nil, message, true) != 1 {
		t.Error("a closed queue takes frames")
	}
}

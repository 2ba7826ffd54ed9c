package server

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

func TestFrameLength(t *testing.T) {
	for name, test := range map[string]struct {
		head []byte
		want int
		err  error
	}{
		"binding request":     {[]byte{0x00, 0x01, 0x00, 0x00}, 20, nil},
		"longest message":     {[]byte{0x00, 0x01, 0xff, 0xfc}, 65552, nil},
		"unaligned message":   {[]byte{0x00, 0x01, 0x00, 0x03}, 0, errNotTURN},
		"empty channel":       {[]byte{0x40, 0x00, 0x00, 0x00}, 4, nil},
		"padded channel":      {[]byte{0x40, 0x00, 0x00, 0x05}, 12, nil},
		"longest channel":     {[]byte{0x4f, 0xff, 0xff, 0xff}, 65540, nil},
		"something like HTTP": {[]byte("\xc3\xa9xx"), 0, errNotTURN},
	} {
		got, err := frameLength(test.head)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %d, %v, want %d, %v", name, got, err, test.want, test.err)
		}
	}
}

// Frames arrive in any pieces; those that are too long are skipped.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0x40, 0, 0, 2, 1, 2, 0, 0, 0x40, 1, 0, 0}, uint8(1))
	f.Add(bytes.Repeat([]byte{0x40, 0, 0xff, 0xff}, 20_000), uint8(7))
	f.Fuzz(func(t *testing.T, input []byte, piece uint8) {
		g := newGate()
		s := &stream{gate: g, in: bufio.NewReaderSize(&pieces{rest: input, size: int(piece) + 1}, streamBuffer), forward: newForwarder(g)}
		read := 0
		for {
			frame, err := s.next(maxMessage)
			if err != nil {
				return
			}
			if len(frame) < channelHeader || len(frame) > maxMessage {
				t.Fatalf("frame of %d bytes", len(frame))
			}
			if read += len(frame); read > len(input) {
				t.Fatalf("%d bytes from an input of %d", read, len(input))
			}
		}
	})
}

type pieces struct {
	rest []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(p.size, len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}

// Beyond its limit a queue drops the oldest data, in whole frames and never
// control, and what is left keeps its order.
func TestFrameQueueDropsOldestData(t *testing.T) {
	channel := func(b byte) (head, body []byte) { return []byte{0x40, 0, 0, 254}, bytes.Repeat([]byte{b}, 254) } // 258, padded to 260
	message := append([]byte{0x01, 0x04, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	q := newFrameQueue(3 * chunkSize)
	dropped, pushed := q.push(nil, message, true), 0
	for range 4 {
		for range chunkSize / 260 {
			head, body := channel(byte(pushed))
			dropped += q.push(head, body, false)
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
	q.close()
	if _, open := q.take(nil); open {
		t.Error("a closed queue gives frames")
	}
	if q.push(nil, message, true) != 1 {
		t.Error("a closed queue takes frames")
	}
}

// A stream that is not ours is closed at once instead of being waited for.
func TestForeignStreamIsClosed(t *testing.T) {
	relay := startRelay(t, nil)
	conn, err := net.Dial("tcp", relay.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, conn)
	if _, err := conn.Write([]byte("\x80\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
}

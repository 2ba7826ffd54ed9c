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
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0x40, 0, 0, 2, 1, 2, 0, 0, 0x40, 1, 0, 0}, uint8(1))
	f.Add(bytes.Repeat([]byte{0x40, 0, 0xff, 0xff}, 20_000), uint8(7))
	f.Fuzz(func(t *testing.T, input []byte, piece uint8) {
		s := &stream{
			listener: &streamListener{gate: &gate{stats: &counters{}}},
			in:       bufio.NewReaderSize(&pieces{rest: input, size: int(piece) + 1}, 64),
		}
		p := make([]byte, maxMessage+1)
		read := 0
		for {
			n, err := s.readFrame(p)
			if err != nil {
				return
			}
			if n < channelHeader || n > maxMessage {
				t.Fatalf("frame of %d bytes", n)
			}
			if read += n; read > len(input) {
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

func TestFrameQueueDropsOldestData(t *testing.T) {
	channel := func(b byte) []byte { return append([]byte{0x40, 0, 0, 96}, bytes.Repeat([]byte{b}, 96)...) }
	message := append([]byte{0x01, 0x04, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	q := newFrameQueue(250)
	if dropped := q.push(message) + q.push(channel(1)) + q.push(channel(2)); dropped != 0 {
		t.Fatalf("%d frames were dropped below the limit", dropped)
	}
	if dropped := q.push(channel(3)); dropped != 1 {
		t.Fatalf("%d frames were dropped, want 1", dropped)
	}
	want := net.Buffers{message, channel(2), channel(3)}
	got := q.take()
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("frame %d is %x, want %x", i, got[i], want[i])
		}
	}
	q.close()
	if q.take() != nil {
		t.Error("a closed queue has frames")
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

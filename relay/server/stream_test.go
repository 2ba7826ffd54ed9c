package server

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/wattlenet/wattle/internal/framing"
)

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
			if len(frame) < framing.ChannelHeader || len(frame) > maxMessage {
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

package tunnel

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// A cutter is a stream that comes in pieces of so many bytes.
type cutter struct {
	net.Conn
	from io.Reader
	size int
}

func (c *cutter) Read(b []byte) (int, error)      { return c.from.Read(b[:min(len(b), c.size)]) }
func (c *cutter) Write(b []byte) (int, error)     { return len(b), nil }
func (c *cutter) Close() error                    { return nil }
func (c *cutter) SetReadDeadline(time.Time) error { return nil }

// FuzzStream reads what a hostile relay may send on a stream: the reader ends with
// the bytes, and the device is given WireGuard and nothing else.
func FuzzStream(f *testing.F) {
	indication := appendSendIndication(nil, peerAddr, transport(1, 32))
	binary.BigEndian.PutUint16(indication, typeDataIndication)
	for _, seed := range [][]byte{
		nil, indication, frame(0x4000, transport(1, 40)), stunMessage(0x0001), transport(1, 32),
		append(frame(0x4000, transport(1, 41)), 0, 0, 0), // padded to four
		{0x40, 0, 0xff, 0xff},
		{0, 1, 0xff, 0xff},
		{0x80},
		bytes.Repeat([]byte{0x40, 0, 0, 0}, 300),
		bytes.Repeat(stunMessage(0x0101), 2*stunQueue),
	} {
		f.Add(seed, uint8(3))
		f.Add(seed, uint8(255))
	}
	f.Fuzz(func(t *testing.T, raw []byte, size uint8) {
		b := testBind(t)
		r := b.OpenRelay(relayAddr, &cutter{from: bytes.NewReader(raw), size: int(size) + 1})
		r.Path(peerAddr, 0x4000)
		defer func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}()
		const slots = 8
		packets, sizes, eps := make([][]byte, slots), make([]int, slots), make([]conn.Endpoint, slots)
		for i := range packets {
			packets[i] = make([]byte, 65535)
		}
		for total := 0; ; {
			n, err := r.stream.receive(packets, sizes, eps)
			for i := range n {
				total += sizes[i]
				if sizes[i] == 0 || eps[i] == nil || wireguardType(packets[i][:sizes[i]]) == 0 {
					t.Errorf("the device was given %d bytes of %x for %v", sizes[i], packets[i][:sizes[i]], eps[i])
				}
			}
			if total > len(raw) || len(b.stun) > stunQueue {
				t.Fatalf("%d bytes became %d, and %d messages wait", len(raw), total, len(b.stun))
			}
			if err != nil {
				break
			}
		}
	})
}

func TestLargeSTUNIsNotKept(t *testing.T) {
	b := testBind(t)
	b.queueSTUN(make([]byte, largestSTUN+1), originOf(peerAddr))
	if len(b.stun) != 0 || b.Drops().STUN != 1 {
		t.Errorf("%d messages kept, %d dropped", len(b.stun), b.Drops().STUN)
	}
}

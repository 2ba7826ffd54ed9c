// Package webstream carries a stream of bytes in the binary messages of a
// WebSocket (RFC 6455).
//
// Where one message ends and the next begins means nothing: a Write is one
// message, a Read takes what has come. Messages are neither collected nor
// compressed, so their length costs no memory.
//
//	 0               1               2 … 9         10 … 13
//	+-+-----+-------+-+-------------+-------------+---------+---------+
//	|F| RSV | opcode|M| length      | length, if  | key, if | payload |
//	|I| = 0 |       | | 0…125 or    | 126 (16 bit)| M is 1  | XOR key |
//	|N|     |       | | 126, 127    | 127 (64 bit)|         |         |
//	+-+-----+-------+-+-------------+-------------+---------+---------+
package webstream

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Opcodes and limits of RFC 6455, section 5.2 and 5.5.
const (
	opContinuation = 0x0
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	bitFinal   = 0x80
	bitsRSV    = 0x70
	bitMasked  = 0x80
	length16   = 126
	length64   = 127
	maxControl = 125
	maxHeader  = 14
)

// Choices of ours.
const (
	// recordSize is what a record of TLS holds: a message is read and written in
	// pieces that fill records.
	recordSize = 16 << 10
	// pieceSize is the most that one write hands to the connection.
	pieceSize = 4 * recordSize
	// controlPatience is how long the other side may refuse to read an answer.
	controlPatience = 10 * time.Second
)

// ErrProtocol is what Read returns when the other side does not follow RFC
// 6455, or sends text.
var ErrProtocol = errors.New("websocket: the other side breaks the protocol")

// A Conn is one side of a WebSocket as a stream. Deadlines act as on the
// connection below: a Read that was interrupted may be repeated, a Write not.
// Close ends the connection at once, without the handshake of section 7.1.2.
type Conn struct {
	net.Conn                    // the connection below: addresses and read deadlines
	stream   io.ReadWriteCloser // what carries the frames, with TLS around Conn if there is any
	client   bool               // masks what it sends (section 5.3)

	// Owned by the reader.
	in      *bufio.Reader
	left    uint64 // bytes of payload that the present frame still has
	inside  bool   // a message has begun and not ended
	unmask  mask
	failure error // of an earlier Read

	writing sync.Mutex // held while a frame is written

	mu       sync.Mutex // guards deadline
	deadline time.Time  // as SetWriteDeadline was told
}

func newConn(below net.Conn, stream io.ReadWriteCloser, early []byte, client bool) *Conn {
	c := &Conn{Conn: below, stream: stream, client: client}
	var source io.Reader = stream
	if len(early) > 0 {
		source = &prefixed{early: early, rest: stream}
	}
	c.in = bufio.NewReaderSize(source, recordSize)
	return c
}

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// prefixed reads what has arrived with the handshake first.
type prefixed struct {
	early []byte
	rest  io.Reader
}

func (r *prefixed) Read(p []byte) (int, error) {
	if len(r.early) == 0 {
		return r.rest.Read(p)
	}
	n := copy(p, r.early)
	r.early = r.early[n:]
	return n, nil
}

// Read returns at least one byte of payload, io.EOF after a Close frame,
// ErrProtocol when the other side breaks the rules. It answers pings.
func (c *Conn) Read(p []byte) (n int, err error) {
	if c.failure != nil || len(p) == 0 {
		return 0, c.failure
	}
	// Once there is something, only what is here already is added.
	for n < len(p) && (n == 0 || c.in.Buffered() >= maxHeader) {
		if c.left == 0 {
			if err = c.nextFrame(); err != nil {
				break
			}
			continue
		}
		var m int
		m, err = c.in.Read(p[n : n+int(min(uint64(len(p)-n), c.left))])
		c.unmask.apply(p[n:n+m], p[n:n+m])
		n, c.left = n+m, c.left-uint64(m)
		if err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.failure = err
	}
	if n > 0 {
		err = nil // a failure is told by the next call
	}
	return n, err
}

// nextFrame reads the header of a frame of data; what stands before it is
// dealt with. A header of which only a part has come is left for the next call.
func (c *Conn) nextFrame() error {
	for {
		h, err := c.header()
		if err != nil {
			return err
		}
		switch h.op {
		case opBinary, opContinuation:
			if (h.op == opContinuation) != c.inside {
				return fmt.Errorf("%w: a message within a message, or a part of none", ErrProtocol)
			}
			c.inside = !h.final
		case opClose, opPing, opPong:
			if h.length > maxControl || !h.final {
				return fmt.Errorf("%w: a control frame of %d bytes", ErrProtocol, h.length)
			}
		default:
			return fmt.Errorf("%w: opcode %d", ErrProtocol, h.op)
		}
		if h.op < opClose {
			if _, err := c.in.Discard(h.size); err != nil {
				return err
			}
			c.left = h.length
			c.unmask.set(h.key, h.length)
			return nil
		}
		if err := c.control(h); err != nil {
			return err
		}
	}
}

// A header is that of one frame; size is its own length.
type header struct {
	final  bool
	op     byte
	length uint64
	key    [4]byte // zeros: not masked
	size   int
}

// header looks at the header of the next frame.
func (c *Conn) header() (header, error) {
	b, err := c.in.Peek(2)
	if err != nil {
		return header{}, err
	}
	h := header{final: b[0]&bitFinal != 0, op: b[0] & 0xF, length: uint64(b[1] &^ bitMasked), size: 2}
	masked := b[1]&bitMasked != 0
	if b[0]&bitsRSV != 0 || masked == c.client {
		return header{}, fmt.Errorf("%w: a bit of an extension, or a wrong mask", ErrProtocol)
	}
	short := h.length
	switch short {
	case length16:
		h.size += 2
	case length64:
		h.size += 8
	}
	keyAt := h.size
	if masked {
		h.size += 4
	}
	if b, err = c.in.Peek(h.size); err != nil {
		return header{}, err
	}
	switch short {
	case length16:
		h.length = uint64(binary.BigEndian.Uint16(b[2:]))
	case length64:
		h.length = binary.BigEndian.Uint64(b[2:])
	}
	if h.length>>63 != 0 {
		return header{}, fmt.Errorf("%w: a length of more than 63 bits", ErrProtocol)
	}
	if masked {
		copy(h.key[:], b[keyAt:])
	}
	return h, nil
}

// control takes in a control frame whole and answers it.
func (c *Conn) control(h header) error {
	b, err := c.in.Peek(h.size + int(h.length))
	if err != nil {
		return err
	}
	payload := make([]byte, h.length)
	var key mask
	key.set(h.key, h.length)
	key.apply(payload, b[h.size:])
	if _, err := c.in.Discard(len(b)); err != nil {
		return err
	}
	switch h.op {
	case opPing:
		return c.answer(opPong, payload)
	case opClose:
		if err := c.answer(opClose, payload); err != nil {
			return err
		}
		return io.EOF
	}
	return nil
}

// answer sends a control frame within controlPatience, whatever the deadline of
// the writer is.
func (c *Conn) answer(op byte, payload []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	patience := func(deadline time.Time) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if deadline.IsZero() {
			deadline = c.deadline
		}
		return c.Conn.SetWriteDeadline(deadline)
	}
	if err := patience(time.Now().Add(controlPatience)); err != nil {
		return err
	}
	_, err := c.writeFrame(op, payload)
	return errors.Join(err, patience(time.Time{}))
}

// Write sends p as one message.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.writeFrame(opBinary, p)
}

// pieces is memory of frames that are being written. Connections that rest
// hold none.
var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// writeFrame is called with writing held.
func (c *Conn) writeFrame(op byte, p []byte) (written int, err error) {
	memory := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(memory)
	var key [4]byte
	if c.client {
		_, _ = rand.Read(key[:]) // never fails
	}
	var masked mask
	masked.set(key, uint64(len(p)))
	piece := c.appendHeader(memory[:0], op, len(p), key)
	for {
		begin := len(piece)
		n := min(len(p), pieceSize-begin)
		piece = memory[:begin+n]
		masked.apply(piece[begin:], p[:n])
		if _, err := c.stream.Write(piece); err != nil {
			return written, err
		}
		written, p, piece = written+n, p[n:], memory[:0]
		if len(p) == 0 {
			return written, nil
		}
	}
}

// appendHeader makes the header of a whole message.
func (c *Conn) appendHeader(b []byte, op byte, length int, key [4]byte) []byte {
	var bit byte
	if c.client {
		bit = bitMasked
	}
	b = append(b, bitFinal|op)
	switch {
	case length < length16:
		b = append(b, bit|byte(length))
	case length < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, bit|length16), uint16(length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bit|length64), uint64(length))
	}
	if c.client {
		b = append(b, key[:]...)
	}
	return b
}

// SetWriteDeadline is that of net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is that of net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close ends the connection.
func (c *Conn) Close() error { return c.stream.Close() }

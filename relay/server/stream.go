package server

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v2"
)

const (
	// stunHeader is the length of a STUN header (RFC 8489, section 5);
	// channelHeader that of ChannelData (RFC 8656, section 12.4).
	stunHeader    = 20
	channelHeader = 4

	// maxMessage is the longest message that is passed on, in bytes. WireGuard
	// packets in ChannelData stay below 1500.
	maxMessage = 2048

	// strangerPatience is how long a connection may live without an
	// allocation.
	strangerPatience = 30 * time.Second
	// clientPatience is how long a client with an allocation may be silent:
	// an allocation that nobody refreshes ends after 10 minutes.
	clientPatience = 11 * time.Minute
	// writePatience is how long a client may refuse to read.
	writePatience = 10 * time.Second

	// maxStrangers bounds connections without an allocation.
	maxStrangers = 1024

	// queueBytes is what waits for a slow connection: a fifth of a second at
	// 10 Mbit/s. Beyond it the oldest data goes, as in any router.
	queueBytes = 256 << 10
)

var errNotTURN = errors.New("stream does not carry STUN or ChannelData")

// A streamListener hands pion TCP connections whose frames have passed the
// gate.
type streamListener struct {
	*net.TCPListener
	gate *gate

	mu        sync.Mutex // guards streams, strangers, closed
	streams   map[*stream]struct{}
	strangers int // streams without an allocation
	closed    bool

	running sync.WaitGroup // the writers of the streams
}

// Accept waits for a connection. While too many are open without an
// allocation, further ones are closed at once.
func (l *streamListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, err
			}
			// Out of descriptors, or a client that left: later ones may
			// succeed. The pause keeps the loop from spinning.
			time.Sleep(10 * time.Millisecond)
			continue
		}
		s := newStream(conn, l)
		if s == nil {
			_ = conn.Close() // nobody waits for the outcome
			continue
		}
		return s, nil
	}
}

// Close stops listening and closes every connection.
func (l *streamListener) Close() error {
	err := l.TCPListener.Close()
	l.mu.Lock()
	l.closed = true
	open := make([]*stream, 0, len(l.streams))
	for s := range l.streams {
		open = append(open, s)
	}
	l.mu.Unlock()
	for _, s := range open {
		_ = s.Close() // a connection that is gone already is as good as closed
	}
	return err
}

// A stream is one client's TCP connection. Frames follow each other without a
// separator and are padded to four bytes (RFC 8656, section 12.5):
//
//	| 00xxxxxx type | length | cookie, transaction | attributes … |  STUN
//	| 01xxxxxx channel | length | data … | padding 0..3 |            ChannelData
//
// Each Read returns exactly one frame, which is what lets pion's own splitter,
// whose arithmetic is 16 bits wide, never see a length that it could wrap.
type stream struct {
	*net.TCPConn
	listener *streamListener
	tuple    fiveTuple
	in       *bufio.Reader
	out      *frameQueue
	known    atomic.Bool // has an allocation
	reserved bool        // owned by the reading goroutine
	closing  sync.Once
}

// newStream returns nil when there are too many strangers or the listener has
// closed.
func newStream(conn *net.TCPConn, l *streamListener) *stream {
	s := &stream{
		TCPConn:  conn,
		listener: l,
		tuple:    fiveTuple{stream: true, local: addrPort(conn.LocalAddr()), client: addrPort(conn.RemoteAddr())},
		in:       bufio.NewReaderSize(conn, 64<<10),
		out:      newFrameQueue(queueBytes),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// The deadline is set once: a stranger that trickles bytes gains no time.
	if l.closed || l.strangers >= maxStrangers || conn.SetReadDeadline(time.Now().Add(strangerPatience)) != nil {
		return nil
	}
	if l.streams == nil {
		l.streams = make(map[*stream]struct{})
	}
	l.streams[s] = struct{}{}
	l.strangers++
	l.running.Go(s.write)
	return s
}

// Read copies the next frame that may pass to p.
func (s *stream) Read(p []byte) (int, error) {
	if s.reserved {
		s.listener.gate.ledger.settle(s.tuple)
		s.reserved = false
	}
	for {
		n, err := s.readFrame(p)
		if err != nil {
			return 0, err
		}
		verdict := s.listener.gate.admit(p[:n], s.tuple)
		if verdict.pass {
			s.reserved = verdict.reserved
			if s.known.Load() {
				s.extend()
			}
			return n, nil
		}
		if verdict.answer != nil {
			s.out.push(verdict.answer)
		}
	}
}

// extend gives a client that holds an allocation its longer patience. Nobody
// waits for a deadline on a connection that is gone.
func (s *stream) extend() {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	if !s.known.Swap(true) {
		s.listener.strangers--
	}
	_ = s.SetReadDeadline(time.Now().Add(clientPatience))
}

// readFrame reads one frame. Frames that nobody can want are skipped; a stream
// that lost its framing ends with errNotTURN.
func (s *stream) readFrame(p []byte) (int, error) {
	limit := min(len(p), maxMessage)
	for {
		head, err := s.in.Peek(channelHeader)
		if err != nil {
			return 0, err
		}
		n, err := frameLength(head)
		if err != nil {
			return 0, err
		}
		if n <= limit {
			return io.ReadFull(s.in, p[:n])
		}
		s.listener.gate.stats.droppedPackets.Add(1)
		if _, err := s.in.Discard(n); err != nil {
			return 0, err
		}
	}
}

// frameLength returns the length of a frame, padding included, from its first
// four bytes.
func frameLength(head []byte) (int, error) {
	length := int(binary.BigEndian.Uint16(head[2:4]))
	switch head[0] >> 6 {
	case 0:
		if length%4 != 0 {
			return 0, fmt.Errorf("%w: STUN length %d", errNotTURN, length)
		}
		return stunHeader + length, nil
	case 1:
		return channelHeader + (length+3)&^3, nil
	default:
		return 0, fmt.Errorf("%w: first byte %#02x", errNotTURN, head[0])
	}
}

// Write queues one frame. It does not wait for the client.
func (s *stream) Write(p []byte) (int, error) {
	if s.listener.gate.observe(p, s.tuple) {
		s.extend()
	}
	if dropped := s.out.push(p); dropped > 0 {
		s.listener.gate.stats.droppedPackets.Add(uint64(dropped))
	}
	return len(p), nil
}

// write empties the queue until the stream is closed.
func (s *stream) write() {
	for {
		frames := s.out.take()
		if frames == nil {
			return
		}
		if err := s.SetWriteDeadline(time.Now().Add(writePatience)); err != nil {
			break
		}
		if _, err := frames.WriteTo(s.TCPConn); err != nil {
			break
		}
	}
	_ = s.Close() // wakes the reader, which ends the allocation
}

// Close ends the connection; pion then ends its allocation.
func (s *stream) Close() error {
	var err error
	s.closing.Do(func() {
		s.out.close()
		err = s.TCPConn.Close()
		s.listener.mu.Lock()
		delete(s.listener.streams, s)
		if !s.known.Swap(true) {
			s.listener.strangers--
		}
		s.listener.mu.Unlock()
	})
	return err
}

// A frameQueue holds frames for one connection, oldest first.
type frameQueue struct {
	limit int

	mu     sync.Mutex // guards frames, bytes, closed
	frames net.Buffers
	bytes  int
	closed bool
	filled *sync.Cond
}

func newFrameQueue(limit int) *frameQueue {
	q := &frameQueue{limit: limit}
	q.filled = sync.NewCond(&q.mu)
	return q
}

// push appends a copy of frame and returns how many old frames of data it had
// to drop. STUN messages are never dropped: they are few and are awaited.
func (q *frameQueue) push(frame []byte) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 1
	}
	q.frames = append(q.frames, append([]byte(nil), frame...))
	q.bytes += len(frame)
	dropped := 0
	for i := 0; q.bytes > q.limit && i < len(q.frames); {
		if !isChannelData(q.frames[i]) && stun.IsMessage(q.frames[i]) && !isDataIndication(q.frames[i]) {
			i++
			continue
		}
		q.bytes -= len(q.frames[i])
		q.frames = append(q.frames[:i], q.frames[i+1:]...)
		dropped++
	}
	q.filled.Signal()
	return dropped
}

// take waits for frames and returns all of them, nil once the queue is closed.
func (q *frameQueue) take() net.Buffers {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.frames) == 0 && !q.closed {
		q.filled.Wait()
	}
	if q.closed {
		return nil
	}
	frames := q.frames
	q.frames, q.bytes = nil, 0
	return frames
}

func (q *frameQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.filled.Broadcast()
}

// isDataIndication recognises data without a channel (RFC 8656, section 11.4).
func isDataIndication(raw []byte) bool { return raw[0] == 0x00 && raw[1] == 0x17 }

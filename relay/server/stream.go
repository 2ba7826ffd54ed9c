package server

import (
	"bufio"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/wattlenet/wattle/internal/framing"
)

const (
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

	// maxStrangers bounds connections of one listener without an allocation.
	maxStrangers = 1024

	// queueBytes is what waits for a slow connection: a fifth of a second at
	// 10 Mbit/s. Beyond it the oldest data goes, as in any router.
	queueBytes = 256 << 10
)

// A streamListener hands pion connections whose frames have passed the gate.
type streamListener struct {
	net.Listener
	gate      *gate
	strangers *crowd // streams without an allocation

	mu      sync.Mutex // guards streams, closed
	streams map[*stream]struct{}
	closed  bool

	running sync.WaitGroup // the writers of the streams
	serving sync.WaitGroup // the streams that pion has not closed yet
}

func newStreamListener(listener net.Listener, g *gate) *streamListener {
	return &streamListener{Listener: listener, gate: g, strangers: newCrowd(maxStrangers, nil), streams: make(map[*stream]struct{})}
}

// Accept waits for a connection. While too many are open without an
// allocation, further ones are closed at once. After Close it waits until pion
// is done with every stream: it ends all allocations next.
func (l *streamListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				l.serving.Wait()
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
	err := l.Listener.Close()
	l.mu.Lock()
	l.closed = true
	open := make([]*stream, 0, len(l.streams))
	for s := range l.streams {
		open = append(open, s)
	}
	l.mu.Unlock()
	for _, s := range open {
		s.end()
	}
	return err
}

// A stream is one client's connection, which carries frames as package framing
// draws them. Data is forwarded here; pion gets exactly one control message from each Read,
// which is what lets its own splitter, whose arithmetic is 16 bits wide, never
// see a length that it could wrap.
type stream struct {
	net.Conn
	listener *streamListener
	gate     *gate
	tuple    fiveTuple
	source   netip.Addr // whom it counts for
	out      *framing.Queue
	ending   sync.Once
	closing  sync.Once

	// Owned by the reading goroutine.
	in      *bufio.Reader
	roomy   bool // in is streamBuffer long
	forward *forwarder
	begun   bool        // forward may refer to what in holds
	known   *allocation // nil: none yet
	then    pending

	counted bool // as a stranger; guarded by listener.mu
}

// streamBuffer is how much one read takes from a connection; strangerBuffer
// from one without an allocation, which has only control messages to send.
const (
	streamBuffer   = 64 << 10
	strangerBuffer = 4 << 10
)

// newStream returns nil when there are too many strangers or the listener has
// closed.
func newStream(conn net.Conn, l *streamListener) *stream {
	s := &stream{
		Conn:     conn,
		listener: l,
		gate:     l.gate,
		tuple:    fiveTuple{stream: true, local: addrPort(conn.LocalAddr()), client: addrPort(conn.RemoteAddr())},
		in:       bufio.NewReaderSize(conn, strangerBuffer),
		out:      framing.NewQueue(queueBytes),
		forward:  newForwarder(l.gate),
		source:   sourceOf(conn),
		counted:  true,
	}
	if !l.strangers.enter(s.source) {
		l.gate.stats.refusedStrangers.Add(1)
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// The deadline is set once: a stranger that trickles bytes gains no time.
	if l.closed || conn.SetReadDeadline(time.Now().Add(strangerPatience)) != nil {
		l.strangers.leave(s.source)
		return nil
	}
	l.streams[s] = struct{}{}
	l.running.Go(s.write)
	l.serving.Add(1)
	return s
}

// Read copies the next control message that may pass to p, and forwards the
// data that comes before it.
func (s *stream) Read(p []byte) (int, error) {
	s.gate.settle(s.tuple, &s.then)
	defer s.flush()
	for {
		frame, err := s.next(min(len(p), maxMessage))
		if err != nil {
			return 0, err
		}
		if isChannelData(frame) {
			s.data(frame)
			continue
		}
		verdict := s.gate.admit(frame, s.tuple)
		if verdict.pass {
			s.then = verdict.then
			if s.known != nil {
				s.extend()
			}
			return copy(p, verdict.message(frame)), nil
		}
		if verdict.answer != nil {
			s.out.Push(nil, verdict.answer, true)
			s.out.Wake()
		}
	}
}

// data forwards one frame. It stays in the buffer until flush.
func (s *stream) data(frame []byte) {
	if !s.begun {
		s.forward.begin()
		s.begun = true
	}
	s.forward.fromClient(s.known, frame)
}

// flush sends what was read so far.
func (s *stream) flush() {
	if s.begun {
		s.forward.flush()
		s.begun = false
	}
}

// next returns the next frame of at most limit bytes, in the memory of the
// buffer, which stays as it is until the frames that it holds are used up: only
// then, after a flush, it is filled again. Longer frames, which nobody can want,
// are skipped; a stream that lost its framing ends with framing.ErrNotTURN.
func (s *stream) next(limit int) ([]byte, error) {
	for {
		head, err := s.peek(framing.ChannelHeader)
		if err != nil {
			return nil, err
		}
		n, err := framing.Length(head)
		if err != nil {
			return nil, err
		}
		if n <= limit {
			frame, err := s.peek(n)
			if err != nil {
				return nil, err
			}
			_, err = s.in.Discard(n)
			return frame, err
		}
		s.gate.stats.droppedPackets.Add(1)
		s.flush()
		if _, err := s.in.Discard(n); err != nil {
			return nil, err
		}
	}
}

// peek returns the next n bytes; before it waits for them it flushes.
func (s *stream) peek(n int) ([]byte, error) {
	if s.in.Buffered() < n {
		s.flush()
		if s.known != nil && !s.roomy && s.in.Buffered() == 0 {
			s.in, s.roomy = bufio.NewReaderSize(s.Conn, streamBuffer), true
		}
	}
	return s.in.Peek(n)
}

// extend gives a client that holds an allocation its longer patience. Nobody
// waits for a deadline on a connection that is gone.
func (s *stream) extend() {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	s.acquainted()
	_ = s.SetReadDeadline(time.Now().Add(clientPatience))
}

// acquainted is called with listener.mu held.
func (s *stream) acquainted() {
	if s.counted {
		s.counted = false
		s.listener.strangers.leave(s.source)
	}
}

// Write queues what pion answers. It does not wait for the client.
func (s *stream) Write(p []byte) (int, error) {
	if a := s.gate.observe(p, s.tuple, client{stream: s}, &s.then); a != nil {
		s.known = a
		s.extend()
	}
	s.gate.stats.droppedPackets.Add(uint64(s.out.Push(nil, p, true)))
	s.out.Wake()
	return len(p), nil
}

// write empties the queue until the stream is closed.
func (s *stream) write() {
	var w framing.Writer
	patience := func() error { return s.SetWriteDeadline(time.Now().Add(writePatience)) }
	for w.Write(s.out, s.Conn, patience) == nil {
		continue
	}
	s.end()
}

// end closes the connection. That wakes pion, which ends the allocation and
// calls Close.
func (s *stream) end() {
	s.ending.Do(func() {
		s.out.Close()
		_ = s.Conn.Close() // one that is gone already is as good as closed
		s.listener.mu.Lock()
		delete(s.listener.streams, s)
		s.acquainted()
		s.listener.mu.Unlock()
	})
}

// Close is called by pion when it is done with the stream.
func (s *stream) Close() error {
	s.end()
	s.closing.Do(s.listener.serving.Done)
	return nil
}

package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// On a stream, STUN messages and ChannelData follow one another without any
// other framing (RFC 8656, section 12.5). The first two bits tell them apart:
//
//	0 0 | STUN: length in bytes 2 and 3, without the header of 20
//	0 1 | ChannelData: length in bytes 2 and 3, without the header of 4, padded to 4
const (
	streamReadBuffer = 256 << 10

	// streamQueue bounds what waits for a slow stream, in bytes. A tunnel must
	// not build seconds of queue: 512 KiB are 0.4 s at 10 Mbit/s.
	streamQueue = 512 << 10
)

var errFraming = errors.New("relay stream: neither STUN nor ChannelData")

// A stream is the connection to a relay that is not reached by UDP.
type stream struct {
	relay *Relay
	conn  net.Conn
	done  chan struct{} // the writer has ended

	// Owned by the receive function.
	buf        []byte
	start, end int

	mu     sync.Mutex // guards all below
	wake   sync.Cond
	queue  []chunk
	queued int // bytes
	closed bool
}

// A chunk is one gathered write. Control is never dropped.
type chunk struct {
	bytes   []byte
	control bool
}

func newStream(r *Relay, connection net.Conn) *stream {
	s := &stream{relay: r, conn: connection, done: make(chan struct{}), buf: make([]byte, streamReadBuffer)}
	s.wake.L = &s.mu
	go s.write()
	return s
}

// Close ends the stream and waits for its writer.
func (s *stream) Close() error {
	s.fail()
	<-s.done
	return nil
}

// fail ends both directions; the first call has effect.
func (s *stream) fail() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.queue, s.queued = nil, 0
	s.mu.Unlock()
	s.wake.Broadcast()
	if first {
		_ = s.conn.Close() // nothing is left to lose
	}
}

func (s *stream) writeControl(message []byte) error {
	return s.enqueue(chunk{bytes: append([]byte(nil), message...), control: true})
}

func (s *stream) writeData(train [][]byte) error {
	size := 0
	for _, frame := range train {
		size += len(frame)
	}
	bytes := make([]byte, 0, size)
	for _, frame := range train {
		bytes = append(bytes, frame...)
	}
	return s.enqueue(chunk{bytes: bytes})
}

// enqueue drops the oldest data when the queue is full.
func (s *stream) enqueue(c chunk) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("relay stream: %w", net.ErrClosed)
	}
	s.queue = append(s.queue, c)
	s.queued += len(c.bytes)
	for i := 0; s.queued > streamQueue && i < len(s.queue)-1; {
		if s.queue[i].control {
			i++
			continue
		}
		s.queued -= len(s.queue[i].bytes)
		s.queue = append(s.queue[:i], s.queue[i+1:]...)
		s.relay.bind.counters.queueDrops.Add(1)
	}
	s.mu.Unlock()
	s.wake.Signal()
	return nil
}

// write gathers all that waits into one system call.
func (s *stream) write() {
	defer close(s.done)
	for {
		s.mu.Lock()
		for len(s.queue) == 0 && !s.closed {
			s.wake.Wait()
		}
		if s.closed {
			s.mu.Unlock()
			return
		}
		buffers := make(net.Buffers, len(s.queue))
		for i, c := range s.queue {
			buffers[i] = c.bytes
		}
		s.queue, s.queued = nil, 0
		s.mu.Unlock()
		if _, err := buffers.WriteTo(s.conn); err != nil {
			s.relay.bind.streams.lost(s, err)
			return
		}
	}
}

// next returns the next whole frame in the buffer; nil when more must be read.
func (s *stream) next() ([]byte, error) {
	b := s.buf[s.start:s.end]
	if len(b) < channelHeader {
		return nil, nil
	}
	size := int(binary.BigEndian.Uint16(b[2:]))
	switch b[0] >> 6 {
	case 0:
		size += stunHeaderSize
	case 1:
		size = channelHeader + padded(size)
	default:
		return nil, errFraming
	}
	if len(b) < size {
		return nil, nil
	}
	s.start += size
	return b[:size], nil
}

// fill reads once, after moving what is left to the front.
func (s *stream) fill() error {
	if s.start > 0 {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	n, err := s.conn.Read(s.buf[s.end:])
	s.end += n
	if n > 0 {
		return nil
	}
	return err
}

// receive returns as many packets as one read has brought. It blocks until at
// least one frame has arrived; the count may be 0 when it was for connectivity.
func (s *stream) receive(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	n, frames := 0, 0
	batch := sorter{bind: s.relay.bind, now: s.relay.bind.now()}
	for n < len(packets) {
		frame, err := s.next()
		if err != nil {
			return n, err
		}
		if frame == nil {
			if frames > 0 {
				return n, nil
			}
			if err := s.fill(); err != nil {
				return n, err
			}
			continue
		}
		frames++
		size := copy(packets[n], frame)
		from := origin{relay: s.relay}
		if sizes[n], eps[n] = batch.place(packets[n], size, &from); sizes[n] > 0 {
			n++
		}
	}
	return n, nil
}

// A streamSlot is where the bind's stream receive function finds the stream of
// the moment. There is one allocation per agent, so there is one slot.
type streamSlot struct {
	bind *Bind

	mu      sync.Mutex // guards all below
	changed sync.Cond
	current *stream
	opened  bool
	held    []heldPacket // for the device, from elsewhere than the stream
}

func newStreamSlot(b *Bind) *streamSlot {
	slot := &streamSlot{bind: b}
	slot.changed.L = &slot.mu
	return slot
}

func (slot *streamSlot) put(s *stream) {
	slot.mu.Lock()
	old := slot.current
	slot.current = s
	slot.mu.Unlock()
	slot.changed.Broadcast()
	if old != nil {
		old.fail()
	}
}

func (slot *streamSlot) drop(s *stream) {
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.current == s {
		slot.current = nil
	}
}

// lost takes a broken stream out and tells connectivity.
func (slot *streamSlot) lost(s *stream, cause error) {
	slot.mu.Lock()
	current := slot.current == s
	if current {
		slot.current = nil
	}
	slot.mu.Unlock()
	s.fail()
	if current {
		slot.bind.log.Info("relay stream lost", "relay", s.relay.server.String(), "error", cause.Error())
		slot.bind.events.add(Event{Kind: RelayLost, Relay: s.relay})
	}
}

func (slot *streamSlot) open() conn.ReceiveFunc {
	slot.mu.Lock()
	defer slot.mu.Unlock()
	slot.opened = true
	if slot.current != nil {
		_ = slot.current.conn.SetReadDeadline(time.Time{}) // a dead stream fails at its next read
	}
	return slot.receive
}

// close interrupts a receive that waits; the stream itself stays.
func (slot *streamSlot) close() {
	slot.mu.Lock()
	slot.opened = false
	if slot.current != nil {
		_ = slot.current.conn.SetReadDeadline(time.Unix(1, 0)) // a dead stream has ended already
	}
	slot.mu.Unlock()
	slot.changed.Broadcast()
}

func (slot *streamSlot) wait() (*stream, bool) {
	slot.mu.Lock()
	defer slot.mu.Unlock()
	for slot.opened && slot.current == nil && len(slot.held) == 0 {
		slot.changed.Wait()
	}
	return slot.current, slot.opened
}

// inject hands packets to the device through the stream's receive function.
func (slot *streamSlot) inject(held []heldPacket) {
	slot.mu.Lock()
	slot.held = append(slot.held, held...)
	if slot.current != nil && len(slot.held) > 0 {
		_ = slot.current.conn.SetReadDeadline(time.Unix(1, 0)) // a dead stream has ended already
	}
	slot.mu.Unlock()
	slot.changed.Broadcast()
}

func (slot *streamSlot) takeHeld(packets [][]byte, sizes []int, eps []conn.Endpoint) (n int) {
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if len(slot.held) == 0 {
		return 0
	}
	for n = 0; n < min(len(packets), len(slot.held)); n++ {
		sizes[n], eps[n] = copy(packets[n], slot.held[n].bytes), slot.held[n].from
	}
	if slot.held = slot.held[n:]; len(slot.held) == 0 && slot.current != nil {
		_ = slot.current.conn.SetReadDeadline(time.Time{}) // a dead stream fails at its next read
	}
	return n
}

// receive is the bind's receive function for streams.
func (slot *streamSlot) receive(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	for {
		s, opened := slot.wait()
		if !opened {
			return 0, net.ErrClosed
		}
		if n := slot.takeHeld(packets, sizes, eps); n > 0 {
			return n, nil
		}
		n, err := s.receive(packets, sizes, eps)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			slot.lost(s, err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

package tunnel

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/wattlenet/wattle/internal/framing"
)

const (
	streamReadBuffer = 256 << 10

	// streamQueue bounds what waits for a slow stream, in bytes. A tunnel must
	// not build seconds of queue: 512 KiB are 0.4 s at 10 Mbit/s.
	streamQueue = 512 << 10
)

// A stream is the connection to a relay that is not reached by UDP.
type stream struct {
	relay *Relay
	conn  net.Conn
	done  chan struct{} // the writer has ended

	// Owned by the receive function.
	buf        []byte
	start, end int

	out    *framing.Queue
	ending sync.Once
}

func newStream(r *Relay, connection net.Conn) *stream {
	s := &stream{
		relay: r, conn: connection, done: make(chan struct{}),
		buf: make([]byte, streamReadBuffer), out: framing.NewQueue(streamQueue),
	}
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
	s.ending.Do(func() {
		s.out.Close()
		_ = s.conn.Close() // nothing is left to lose
	})
}

// push queues messages for the relay: control, or data, of which the oldest goes
// when the queue is full.
func (s *stream) push(train [][]byte, control bool) {
	dropped := 0
	for _, frame := range train {
		dropped += s.out.Push(nil, frame, control)
	}
	s.out.Wake()
	s.relay.bind.counters.queueDrops.Add(uint64(dropped))
}

// write sends what is queued until the stream ends.
func (s *stream) write() {
	defer close(s.done)
	var w framing.Writer
	for {
		err := w.Write(s.out, s.conn, func() error { return nil })
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.relay.bind.streams.lost(s, err)
			return
		}
	}
}

// next returns the next whole frame in the buffer; nil when more must be read.
func (s *stream) next() ([]byte, error) {
	b := s.buf[s.start:s.end]
	if len(b) < framing.ChannelHeader {
		return nil, nil
	}
	size, err := framing.Length(b)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
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

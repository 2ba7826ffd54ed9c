package framing

import (
	"net"
	"sync"
)

// chunkSize is how much one write of a stream carries at least, when so much
// waits: two records of TLS.
const chunkSize = 32 << 10

// A chunk is some frames in one piece of memory.
type chunk struct {
	bytes  []byte
	frames int
	data   bool // may be dropped
}

var chunkMemory = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// A Queue holds frames for one connection, oldest first, in chunks. Make it with
// NewQueue.
type Queue struct {
	limit int // bytes

	mu     sync.Mutex // guards what follows
	chunks []chunk
	bytes  int
	closed bool
	filled *sync.Cond
}

// NewQueue makes a queue of about limit bytes: beyond it the oldest data goes, as
// in any router.
func NewQueue(limit int) *Queue {
	q := &Queue{limit: limit}
	q.filled = sync.NewCond(&q.mu)
	return q
}

// Push appends a copy of the frame head+body, padded to four bytes (RFC 8656,
// section 12.5), and returns how many frames it had to drop for it: old ones of
// data, or itself when it is longer than a chunk or the queue is closed. Control
// messages are never dropped for others: they are few and are awaited. Whoever
// has pushed all he has calls Wake.
func (q *Queue) Push(head, body []byte, control bool) (dropped int) {
	size := (len(head) + len(body) + 3) &^ 3
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || size > chunkSize {
		return 1
	}
	last := q.last(size, !control)
	begin := len(last.bytes)
	last.bytes = append(append(last.bytes, head...), body...)
	for len(last.bytes) < begin+size {
		last.bytes = append(last.bytes, 0)
	}
	last.frames++
	q.bytes += size
	return q.trim()
}

// last returns the chunk that takes a frame of that size.
func (q *Queue) last(size int, data bool) *chunk {
	if n := len(q.chunks); n > 0 {
		if c := &q.chunks[n-1]; c.data == data && len(c.bytes)+size <= chunkSize {
			return c
		}
	}
	q.chunks = append(q.chunks, chunk{bytes: chunkMemory.Get().(*[chunkSize]byte)[:0], data: data})
	return &q.chunks[len(q.chunks)-1]
}

// trim drops the oldest data beyond the limit, but for the newest chunk.
func (q *Queue) trim() (dropped int) {
	for i := 0; q.bytes > q.limit && i < len(q.chunks)-1; {
		c := &q.chunks[i]
		if !c.data {
			i++
			continue
		}
		dropped += c.frames
		q.bytes -= len(c.bytes)
		c.free()
		q.chunks = append(q.chunks[:i], q.chunks[i+1:]...)
	}
	return dropped
}

// free gives the memory of a chunk back.
func (c *chunk) free() {
	chunkMemory.Put((*[chunkSize]byte)(c.bytes[:chunkSize]))
	c.bytes = nil
}

// Wake tells the writer that there is something.
func (q *Queue) Wake() { q.filled.Signal() }

// take waits for frames and moves all of them to into, which is empty. It
// returns false once the queue is closed.
func (q *Queue) take(into []chunk) ([]chunk, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.chunks) == 0 && !q.closed {
		q.filled.Wait()
	}
	if q.closed {
		return nil, false
	}
	into = append(into, q.chunks...)
	clear(q.chunks)
	q.chunks, q.bytes = q.chunks[:0], 0
	return into, true
}

// Close ends Write, and forgets what waits. A second call does nothing.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for i := range q.chunks {
		q.chunks[i].free()
	}
	q.chunks, q.bytes = nil, 0
	q.filled.Broadcast()
}

// A Writer empties a queue into a connection. It belongs to one goroutine.
type Writer struct {
	taken   []chunk
	buffers net.Buffers
}

// Write waits for frames and sends all that wait, in as few calls as the
// connection allows; before is called in between. It returns net.ErrClosed once
// the queue is closed.
func (w *Writer) Write(q *Queue, conn net.Conn, before func() error) error {
	taken, ok := q.take(w.taken[:0])
	if !ok {
		return net.ErrClosed
	}
	w.taken = taken
	if err := before(); err != nil {
		return err
	}
	w.buffers = w.buffers[:0]
	for i := range taken {
		w.buffers = append(w.buffers, taken[i].bytes)
	}
	rest := w.buffers // WriteTo consumes it
	_, err := rest.WriteTo(conn)
	for i := range taken {
		taken[i].free()
	}
	clear(w.buffers)
	return err
}

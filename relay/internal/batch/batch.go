// Package batch reads and writes the datagrams of a UDP socket many at a time.
//
// On Linux one system call takes up to Messages messages, and the kernel joins
// datagrams of one sender to one message (UDP_GRO) and cuts one message into
// datagrams of equal size (UDP_SEGMENT):
//
//	message  | datagram | datagram | datagram | rest |   Segment bytes each, the last may be shorter
//
// Elsewhere each call moves one datagram.
package batch

import (
	"net/netip"
	"sync"
)

const (
	// Messages is how many messages one call receives at most.
	Messages = 16
	// messageSize is the longest message: the kernel joins no more.
	messageSize = 1 << 16
)

// A Message is one or more datagrams of one sender.
type Message struct {
	From  netip.AddrPort
	Bytes []byte
	// Segment is the length of each datagram in Bytes but the last, which may
	// be shorter. It is never 0 while Bytes is not empty.
	Segment int
}

// Next cuts the first datagram off. The message must not be empty. The
// capacity of what it returns reaches over the datagrams that follow, which is
// how an Outbox sees that they are neighbours: do not append to it.
func (m *Message) Next() []byte {
	n := min(m.Segment, len(m.Bytes))
	datagram := m.Bytes[:n]
	m.Bytes = m.Bytes[n:]
	return datagram
}

// An Inbox holds what one call has received. Release it as soon as nothing
// refers to its bytes any more: a socket that waits holds none.
type Inbox struct {
	Messages []Message

	all     [Messages]Message
	storage []byte
	system  inboxSystem
}

var inboxes = sync.Pool{New: func() any {
	in := &Inbox{storage: make([]byte, Messages*messageSize)}
	in.prepare()
	return in
}}

// Release gives the inbox back.
func (in *Inbox) Release() {
	in.Messages = nil
	inboxes.Put(in)
}

func (in *Inbox) buffer(i int) []byte { return in.storage[i*messageSize : (i+1)*messageSize] }

// An Outbox collects datagrams for one socket. It does not copy them: what is
// added must not change until Conn.Write has returned.
type Outbox struct {
	trains []train
	parts  [][]byte
	system outboxSystem
}

// A train is a run of datagrams to one address that leave as one message.
type train struct {
	to      netip.AddrPort
	first   int // in parts
	count   int // parts
	bytes   int
	segment int // length of every datagram but the last
	cars    int // datagrams
	ended   bool
}

const (
	// maxCars is what every kernel cuts one message into at most.
	maxCars = 64
	// maxTrain is the longest message over IPv4.
	maxTrain = 1<<16 - 1 - 20 - 8
	// maxTrains and maxParts bound one call.
	maxTrains = 64
	maxParts  = 1024
	// partsPerCar is the most that Add appends.
	partsPerCar = 2
)

// NewOutbox makes an empty outbox.
func NewOutbox() *Outbox {
	out := &Outbox{trains: make([]train, 0, maxTrains), parts: make([][]byte, 0, maxParts)}
	out.prepare()
	return out
}

// Full reports whether the next Add may find no room.
func (out *Outbox) Full() bool {
	return len(out.trains) == maxTrains || len(out.parts)+partsPerCar > maxParts
}

// Empty reports whether there is nothing to write.
func (out *Outbox) Empty() bool { return len(out.trains) == 0 }

// Add appends the datagram head+body for to; head may be empty. The outbox
// must not be Full.
func (out *Outbox) Add(to netip.AddrPort, head, body []byte) {
	length := len(head) + len(body)
	t := out.last(to, length)
	if t == nil {
		out.trains = append(out.trains, train{to: to, first: len(out.parts), segment: length})
		t = &out.trains[len(out.trains)-1]
	}
	t.cars++
	t.bytes += length
	t.ended = length < t.segment || length == 0
	out.append(t, head)
	out.append(t, body)
}

// last returns the train that a datagram of length can join, nil when it
// needs a new one.
func (out *Outbox) last(to netip.AddrPort, length int) *train {
	if len(out.trains) == 0 {
		return nil
	}
	t := &out.trains[len(out.trains)-1]
	if t.ended || t.to != to || length > t.segment || t.cars == maxCars || t.bytes+length > maxTrain {
		return nil
	}
	return t
}

// append adds a part. One that lies right behind the last in the same memory
// makes that longer.
func (out *Outbox) append(t *train, part []byte) {
	if len(part) == 0 {
		return
	}
	if t.count > 0 {
		previous := &out.parts[len(out.parts)-1]
		if n := len(*previous); follows(*previous, part) {
			*previous = (*previous)[:n+len(part)]
			return
		}
	}
	out.parts = append(out.parts, part)
	t.count++
}

// reset empties the outbox and lets go of the memory it referred to.
func (out *Outbox) reset() {
	clear(out.parts)
	out.trains, out.parts = out.trains[:0], out.parts[:0]
}

// datagram copies the datagram at offset of a train to buffer and returns it.
func (out *Outbox) datagram(t *train, offset int, buffer []byte) []byte {
	want := min(t.segment, t.bytes-offset)
	buffer = buffer[:0]
	for _, part := range out.parts[t.first : t.first+t.count] {
		if offset >= len(part) {
			offset -= len(part)
			continue
		}
		part = part[offset:]
		offset = 0
		buffer = append(buffer, part[:min(len(part), want-len(buffer))]...)
		if len(buffer) == want {
			break
		}
	}
	return buffer
}

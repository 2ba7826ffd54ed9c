package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	length uint32
}

// controlSize holds one control message with an int, the largest that is
// exchanged: UDP_GRO brings an int, UDP_SEGMENT takes a uint16.
var controlSize = unix.CmsgSpace(4)

type inboxSystem struct {
	headers [Messages]mmsghdr
	names   [Messages]unix.RawSockaddrInet6 // room for either family
	vectors [Messages]unix.Iovec
	control []byte
}

func (in *Inbox) prepare() {
	in.system.control = make([]byte, Messages*controlSize)
	for i := range Messages {
		in.system.vectors[i].Base = &in.storage[i*messageSize]
		in.system.vectors[i].SetLen(messageSize)
	}
}

type outboxSystem struct {
	headers [maxTrains]mmsghdr
	names   [maxTrains]unix.RawSockaddrInet6
	vectors [maxParts]unix.Iovec
	control []byte
	scratch []byte // one datagram, when the kernel does not cut trains
}

func (out *Outbox) prepare() { out.system.control = make([]byte, maxTrains*controlSize) }

// follows reports whether b begins where a ends and a may grow over it.
func follows(a, b []byte) bool {
	return cap(a)-len(a) >= len(b) && unsafe.SliceData(a[len(a):cap(a)]) == unsafe.SliceData(b)
}

// A Conn is a UDP socket.
type Conn struct {
	udp  *net.UDPConn
	raw  syscall.RawConn
	ipv6 bool
	// whole is set when the kernel refuses to cut messages on this socket.
	whole atomic.Bool

	reads  sync.Pool // *reading
	writes sync.Pool // *writing
}

// New makes conn ready for batches. It stays usable by itself.
func New(conn *net.UDPConn) (*Conn, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{udp: conn, raw: raw}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var domain int
		if domain, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); failed != nil {
			return
		}
		c.ipv6 = domain == unix.AF_INET6
		// Older kernels know neither; datagrams then come and go one by one.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		_, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		c.whole.Store(err != nil)
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("prepare a socket for batches: %w", err)
	}
	c.reads.New = func() any { return newReading(c) }
	c.writes.New = func() any { return newWriting(c) }
	return c, nil
}

// A reading is one call of Receive; it exists so that the function given to
// the runtime is made once.
type reading struct {
	conn *Conn
	in   *Inbox
	n    int
	err  error
	step func(fd uintptr) bool
}

func newReading(c *Conn) *reading {
	r := &reading{conn: c}
	r.step = r.try
	return r
}

// Receive waits for datagrams and returns as many as one call brings. The
// caller releases the inbox. After the socket has closed it returns
// net.ErrClosed.
func (c *Conn) Receive() (*Inbox, error) {
	r := c.reads.Get().(*reading)
	defer c.reads.Put(r)
	r.in, r.n, r.err = nil, 0, nil
	if err := c.raw.Read(r.step); err != nil {
		return nil, err
	}
	in := r.in
	r.in = nil
	if r.err != nil {
		in.Release()
		return nil, r.err
	}
	in.collect(r.n)
	return in, nil
}

// try takes memory only when there is something to read.
func (r *reading) try(fd uintptr) bool {
	in := inboxes.Get().(*Inbox)
	s := &in.system
	for i := range Messages {
		h := &s.headers[i]
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&s.names[i])), unix.SizeofSockaddrInet6
		h.Iov = &s.vectors[i]
		h.SetIovlen(1)
		h.Control = &s.control[i*controlSize]
		h.SetControllen(controlSize)
		h.Flags = 0
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&s.headers[0])), Messages, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			r.in, r.n = in, int(n)
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			in.Release()
			return false
		default:
			r.in, r.err = in, errno
			return true
		}
	}
}

// collect describes the n messages that have arrived. What was cut off because
// it was too long, and what has no address, is left out.
func (in *Inbox) collect(n int) {
	s := &in.system
	in.Messages = in.all[:0]
	for i := range n {
		h := &s.headers[i]
		from, ok := addrOf(&s.names[i])
		if !ok || h.Flags&unix.MSG_TRUNC != 0 || h.length == 0 {
			continue
		}
		m := Message{From: from, Bytes: in.buffer(i)[:h.length], Segment: int(h.length)}
		if size := segmentOf(s.control[i*controlSize:][:h.Controllen]); size > 0 {
			m.Segment = size
		}
		in.Messages = append(in.Messages, m)
	}
}

// segmentOf reads UDP_GRO, 0 when there is none.
func segmentOf(control []byte) int {
	if len(control) < unix.CmsgLen(4) {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	if h.Level != unix.IPPROTO_UDP || h.Type != unix.UDP_GRO {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(control[unix.CmsgLen(0):])))
}

// A writing is one call of Write.
type writing struct {
	conn *Conn
	out  *Outbox
	at   int // the first header that has not left
	err  error
	step func(fd uintptr) bool
}

func newWriting(c *Conn) *writing {
	w := &writing{conn: c}
	w.step = w.try
	return w
}

// Write sends what out holds, empties it and returns how many datagrams the
// kernel did not take. It waits while the socket's buffer is full. The error is
// net.ErrClosed when the socket has closed; what cannot be delivered to one
// address is no error.
func (c *Conn) Write(out *Outbox) (lost int, err error) {
	defer out.reset()
	w := c.writes.Get().(*writing)
	defer c.writes.Put(w)
	w.out, w.at = out, 0
	out.headers(c)
	for w.at < len(out.trains) {
		w.err = nil
		if err := c.raw.Write(w.step); err != nil {
			for ; w.at < len(out.trains); w.at++ {
				lost += out.trains[w.at].cars
			}
			w.out = nil
			return lost, err
		}
		if w.err != nil {
			lost += c.refused(out, &out.trains[w.at], w.err)
			w.at++
		}
	}
	w.out = nil
	return lost, nil
}

func (w *writing) try(fd uintptr) bool {
	headers := w.out.system.headers[w.at:len(w.out.trains)]
	if w.conn.whole.Load() && w.out.trains[w.at].cars > 1 {
		w.err = unix.EIO
		return true
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			w.at += int(n)
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		default:
			w.err = errno
			return true
		}
	}
}

// refused deals with a train that the kernel did not take and returns how many
// datagrams are lost. A train of several goes again, one by one: the device may
// not cut it (EIO), or its datagrams are longer than the path takes at once
// (EINVAL, EMSGSIZE).
func (c *Conn) refused(out *Outbox, t *train, cause error) (lost int) {
	if t.cars == 1 {
		return 1
	}
	if errors.Is(cause, unix.EIO) {
		c.whole.Store(true)
	}
	if out.system.scratch == nil {
		out.system.scratch = make([]byte, messageSize)
	}
	for offset := 0; offset < t.bytes; offset += t.segment {
		datagram := out.datagram(t, offset, out.system.scratch)
		if _, err := c.udp.WriteToUDPAddrPort(datagram, t.to); err != nil {
			lost++
		}
	}
	return lost
}

// headers describes the trains for the kernel.
func (out *Outbox) headers(c *Conn) {
	s := &out.system
	for i, part := range out.parts {
		s.vectors[i].Base = unsafe.SliceData(part)
		s.vectors[i].SetLen(len(part))
	}
	for i := range out.trains {
		t, h := &out.trains[i], &s.headers[i]
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
		h.Namelen = putAddr(&s.names[i], t.to, c.ipv6)
		h.Iov, h.Control = nil, nil
		if t.count > 0 {
			h.Iov = &s.vectors[t.first]
		}
		h.SetIovlen(t.count)
		h.SetControllen(0)
		h.Flags = 0
		if t.cars > 1 {
			putSegment(s.control[i*controlSize:][:controlSize], uint16(t.segment))
			h.Control = &s.control[i*controlSize]
			h.SetControllen(unix.CmsgSpace(2))
		}
	}
}

func putSegment(control []byte, size uint16) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], size)
}

// addrOf reads the name of a sender, IPv4 in its short form.
func addrOf(name *unix.RawSockaddrInet6) (netip.AddrPort, bool) {
	switch name.Family {
	case unix.AF_INET:
		short := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(short.Addr), bigEndian(short.Port)), true
	case unix.AF_INET6:
		addr := netip.AddrFrom16(name.Addr).Unmap()
		if name.Scope_id != 0 && addr.IsLinkLocalUnicast() {
			return netip.AddrPort{}, false // nobody's client: a relay is reached by routed addresses
		}
		return netip.AddrPortFrom(addr, bigEndian(name.Port)), true
	default:
		return netip.AddrPort{}, false
	}
}

// putAddr writes the name of a receiver and returns its length.
func putAddr(name *unix.RawSockaddrInet6, to netip.AddrPort, ipv6 bool) uint32 {
	if ipv6 {
		*name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: bigEndian(to.Port()), Addr: to.Addr().As16()}
		return unix.SizeofSockaddrInet6
	}
	short := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
	*short = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: bigEndian(to.Port())}
	if addr := to.Addr().Unmap(); addr.Is4() {
		short.Addr = addr.As4()
	}
	return unix.SizeofSockaddrInet4
}

// bigEndian turns a port between the host's order and the network's.
func bigEndian(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

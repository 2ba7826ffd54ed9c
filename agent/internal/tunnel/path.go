package tunnel

import (
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

const (
	// faultsUntilSingle is how many refused trains (kernel faults in segmentation
	// offload) make a path send datagram by datagram for good.
	faultsUntilSingle = 3

	// safeMessage passes every link: 576 bytes (RFC 791, section 3.2) without the
	// headers of IP and UDP.
	safeMessage = 576 - 28
)

// A Path is one way for the packets of one peer: directly to an address, or
// through a relay to the peer's relayed address. A path is made once and used
// until it is replaced; its counters are the evidence for its life.
type Path struct {
	bind    *Bind
	relay   *Relay         // nil: direct
	addr    netip.AddrPort // the peer's address, or its relayed address
	channel uint16         // 0 on a relay: Send indications, until a channel is bound

	inner atomic.Pointer[conn.StdNetEndpoint] // direct only: keeps the local address last received on

	received   atomic.Int64 // bind clock of the last receipt; 0: never
	sent       atomic.Int64 // bind clock of the last send; 0: never
	unanswered atomic.Int64 // bind clock of the first send since the last receipt; 0: none
	laden      atomic.Int64 // bind clock of the last message that some link may be too narrow for; 0: never
	mtu        atomic.Int32 // of the overlay, in bytes; 0: no limit is known
	refused    atomic.Bool  // a train was too large for the path, and nobody has asked yet
	single     atomic.Bool  // no segmentation offload on this path
	faults     atomic.Int32
}

// DirectPath makes the path to a peer's own address.
func (b *Bind) DirectPath(addr netip.AddrPort) *Path {
	p := &Path{bind: b, addr: normal(addr)}
	p.inner.Store(&conn.StdNetEndpoint{AddrPort: p.addr})
	return p
}

// Addr returns the peer's address; on a relay, its relayed address.
func (p *Path) Addr() netip.AddrPort { return p.addr }

// String describes the path; "none" for nil.
func (p *Path) String() string {
	switch {
	case p == nil:
		return "none"
	case p.relay != nil:
		return "relay " + p.relay.server.String() + " to " + p.addr.String()
	default:
		return p.addr.String()
	}
}

// Relay returns the relay of the path, nil when the path is direct.
func (p *Path) Relay() *Relay { return p.relay }

// Channel returns the number that the relay knows the peer by; 0: none.
func (p *Path) Channel() uint16 { return p.channel }

// Received returns how long ago something arrived on the path, and false when
// nothing ever has.
func (p *Path) Received() (time.Duration, bool) { return p.bind.since(p.received.Load()) }

// Sent returns how long ago something left on the path, and false when nothing
// ever has.
func (p *Path) Sent() (time.Duration, bool) { return p.bind.since(p.sent.Load()) }

// Unanswered returns how long the path has been sending without receiving
// anything. Zero means that the last word was the peer's.
func (p *Path) Unanswered() time.Duration {
	age, _ := p.bind.since(p.unanswered.Load())
	return age
}

// Laden returns how long ago a message left on the path that some link may be too
// narrow for, and false when none ever has.
func (p *Path) Laden() (time.Duration, bool) { return p.bind.since(p.laden.Load()) }

// Refused reports whether the kernel has refused a batch as too large for the
// path since the last call: it has learned of a narrow link.
func (p *Path) Refused() bool { return p.refused.Load() && p.refused.Swap(false) }

// MTU returns the largest packet of the overlay that the path carries, in bytes;
// 0: no limit is known.
func (p *Path) MTU() int { return int(p.mtu.Load()) }

// SetMTU sets it. The senders of larger packets that may not be broken up are
// told, by ICMP inside the tunnel. WireGuard of the kernel does not heed it.
func (p *Path) SetMTU(bytes int) {
	if p.mtu.Swap(int32(bytes)) != int32(bytes) {
		p.single.Store(false) // a train of smaller packets may pass
	}
}

// Pause returns how long nothing had arrived when the sending began that is
// unanswered now; 0 when everything is answered or nothing ever arrived.
func (p *Path) Pause() time.Duration {
	began, received := p.unanswered.Load(), p.received.Load()
	if began == 0 || received == 0 {
		return 0
	}
	return time.Duration(began - received)
}

// WriteSTUN sends one STUN message along the path: to the peer, past the device.
func (p *Path) WriteSTUN(message []byte) error { return p.transmit([][]byte{message}) }

// MarkReceived records a receipt that did not pass through the device, such as
// the answer to a probe.
func (p *Path) MarkReceived() { p.touch(p.bind.now()) }

// Forgive forgets what was sent without an answer: while a path carries copies,
// the answers come on the other one.
func (p *Path) Forgive() { p.unanswered.Store(0) }

func (p *Path) touch(now int64) {
	p.received.Store(now)
	p.unanswered.Store(0)
}

// matches reports whether a datagram from this origin came along the path.
func (p *Path) matches(from *origin) bool {
	if p == nil || p.relay != from.relay {
		return false
	}
	if from.relay != nil && from.channel != 0 && p.channel != 0 {
		return p.channel == from.channel
	}
	return p.addr == from.addr
}

// send writes a batch and notes the time.
func (p *Path) send(bufs [][]byte) error {
	now := p.bind.now()
	p.sent.Store(now)
	p.unanswered.CompareAndSwap(0, now)
	if slices.ContainsFunc(bufs, large) {
		p.laden.Store(now)
	}
	return p.transmit(bufs)
}

func large(message []byte) bool { return len(message) > safeMessage }

func (p *Path) transmit(bufs [][]byte) error {
	if p.relay != nil {
		return p.relay.send(bufs, p)
	}
	return p.bind.sendTrain(bufs, &p.inner, p)
}

// write hands a batch to the standard bind, from the local address that the
// path was last used from if that is still there.
func (b *Bind) write(bufs [][]byte, at *atomic.Pointer[conn.StdNetEndpoint]) error {
	inner := at.Load()
	err := b.std.Send(bufs, inner)
	if err == nil || !inner.SrcIP().IsValid() || !lostSource(err) {
		return err
	}
	// The address is gone, or its routes: what the machine has now may do,
	// before anybody tells of the change.
	fresh := &conn.StdNetEndpoint{AddrPort: inner.AddrPort}
	if again := b.std.Send(bufs, fresh); again != nil {
		return err
	}
	at.CompareAndSwap(inner, fresh)
	return nil
}

// lostSource reports an error of a socket whose packets were to leave from an
// address or an interface that the machine does not have any more.
func lostSource(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{syscall.EINVAL, syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.ENODEV}, func(errno syscall.Errno) bool {
		return errors.Is(err, errno)
	})
}

// sendTrain hands a batch to the standard bind, which coalesces it. When the
// kernel refuses the train, the packets go one by one: it would refuse the
// same train for ever.
func (b *Bind) sendTrain(bufs [][]byte, to *atomic.Pointer[conn.StdNetEndpoint], p *Path) error {
	if len(bufs) == 1 {
		return b.sendSingly(bufs, to)
	}
	if b.single || p.single.Load() {
		err := b.write(apart(bufs), to)
		if errors.Is(err, syscall.EMSGSIZE) { // for one of them; who has a copy already drops the second
			return b.sendSingly(bufs, to)
		}
		return err
	}
	err := b.write(bufs, to)
	if !errors.Is(err, syscall.EMSGSIZE) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	b.counters.refusedTrains.Add(1)
	if errors.Is(err, syscall.EMSGSIZE) {
		p.refused.Store(true)
		p.single.Store(true)
	} else if p.faults.Add(1) >= faultsUntilSingle {
		p.single.Store(true)
	}
	return b.sendSingly(bufs, to)
}

// apart returns a batch whose packets have no memory behind them, in which the
// standard bind would coalesce them: still one system call, and no train.
func apart(bufs [][]byte) [][]byte {
	list := make([][]byte, len(bufs))
	for i, buf := range bufs {
		list[i] = slices.Clip(buf)
	}
	return list
}

func (b *Bind) sendSingly(bufs [][]byte, to *atomic.Pointer[conn.StdNetEndpoint]) error {
	var failure error
	for i := range bufs {
		err := b.write(bufs[i:i+1], to)
		switch {
		case err == nil:
		case errors.Is(err, syscall.EMSGSIZE):
			b.counters.tooBig.Add(1) // this packet is lost, the next may be smaller
		default:
			failure = err
		}
	}
	return failure
}

// origin is where a datagram came from.
type origin struct {
	addr    netip.AddrPort // the sender; behind a relay its relayed address, when known
	relay   *Relay         // nil: straight from the sender
	channel uint16         // 0: not ChannelData
	inner   *conn.StdNetEndpoint
}

// path returns the way back to where the datagram came from.
func (o *origin) path(b *Bind) *Path {
	if o.relay != nil {
		return o.relay.Path(o.addr, o.channel)
	}
	p := b.DirectPath(o.addr)
	p.inner.Store(o.inner)
	return p
}

// normal writes an IPv4 address in its short form, so that addresses compare.
func normal(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}

package netcheck

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/pion/stun/v2"
)

// Control prepares a socket before it is used.
type Control = func(network, address string, c syscall.RawConn) error

// attrFiller may be ignored by who does not know it (RFC 8489, section 14).
const attrFiller stun.AttrType = 0xfefe

// The bits of CHANGE-REQUEST (RFC 5780, section 7.2).
const (
	changeIP   uint32 = 0x04
	changePort uint32 = 0x02
)

// Choices of ours.
const (
	firstRepeat = 150 * time.Millisecond // doubles
	answerLimit = 1200 * time.Millisecond
	queue       = 8
)

var errNoAnswer = errors.New("no answer over UDP")

// answer is one binding response.
type answer struct {
	mapped netip.AddrPort
	other  netip.AddrPort // a second socket of the server; not valid without one
	rtt    time.Duration
}

// A client asks servers from one socket.
type client struct {
	conn net.PacketConn
	done sync.WaitGroup

	mu      sync.Mutex // guards pending
	pending map[[stun.TransactionIDSize]byte]chan *stun.Message
}

func (c Config) listen(ctx context.Context, network string) (net.PacketConn, error) {
	config := net.ListenConfig{Control: c.Control}
	return config.ListenPacket(ctx, network, ":0")
}

func newClient(conn net.PacketConn) *client {
	k := &client{conn: conn, pending: map[[stun.TransactionIDSize]byte]chan *stun.Message{}}
	k.done.Go(k.read)
	return k
}

// close ends the reader and waits for it.
func (k *client) close() {
	_ = k.conn.Close() // nothing is buffered
	k.done.Wait()
}

func (k *client) read() {
	buffer := make([]byte, 2048)
	for {
		n, _, err := k.conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a refusal by ICMP
		}
		m := &stun.Message{Raw: append([]byte(nil), buffer[:n]...)}
		if m.Decode() != nil {
			continue
		}
		k.mu.Lock()
		waiting := k.pending[m.TransactionID]
		k.mu.Unlock()
		select {
		case waiting <- m:
		default: // nobody waits, or has it already
		}
	}
}

// ask sends a binding request until it is answered; the error is errNoAnswer.
func (k *client) ask(ctx context.Context, to netip.AddrPort, with ...stun.Setter) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	request, err := stun.Build(append([]stun.Setter{stun.TransactionID, stun.BindingRequest}, with...)...)
	if err != nil {
		return answer{}, err
	}
	incoming := make(chan *stun.Message, queue)
	k.mu.Lock()
	k.pending[request.TransactionID] = incoming
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.pending, request.TransactionID)
		k.mu.Unlock()
	}()
	began, repeat := time.Now(), firstRepeat
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			// What cannot be sent gets no answer either.
			_, _ = k.conn.WriteTo(request.Raw, net.UDPAddrFromAddrPort(to))
			timer.Reset(repeat)
			repeat *= 2
		case m := <-incoming:
			return read(m, time.Since(began))
		case <-ctx.Done():
			return answer{}, errNoAnswer
		}
	}
}

// hears reports whether a message that another socket sends to an address
// arrives at this one.
func (k *client) hears(ctx context.Context, other net.PacketConn, at netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	message, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodBinding, stun.ClassIndication))
	if err != nil {
		return false
	}
	incoming := make(chan *stun.Message, queue)
	k.mu.Lock()
	k.pending[message.TransactionID] = incoming
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.pending, message.TransactionID)
		k.mu.Unlock()
	}()
	ticker := time.NewTicker(firstRepeat)
	defer ticker.Stop()
	for {
		_, _ = other.WriteTo(message.Raw, net.UDPAddrFromAddrPort(at)) // sent again
		select {
		case <-incoming:
			return true
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}

// read takes the addresses out of a response. A server that refuses has
// answered as well.
func read(m *stun.Message, rtt time.Duration) (answer, error) {
	a := answer{rtt: rtt}
	if m.Type.Class != stun.ClassSuccessResponse && m.Type.Class != stun.ClassErrorResponse {
		return a, errNoAnswer // our own request, which came back
	}
	var mapped stun.XORMappedAddress
	if mapped.GetFrom(m) == nil {
		a.mapped = socketOf(mapped.IP, mapped.Port)
	}
	var other stun.OtherAddress
	if other.GetFrom(m) == nil {
		a.other = socketOf(other.IP, other.Port)
	}
	return a, nil
}

func socketOf(ip net.IP, port int) netip.AddrPort {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port))
}

// change asks the server to answer from another socket.
func change(bits uint32) stun.Setter {
	return stun.RawAttribute{Type: stun.AttrChangeRequest, Value: binary.BigEndian.AppendUint32(nil, bits)}
}

// filled makes the message size bytes long, which is a multiple of four.
type filled int

// AddTo adds the filler.
func (size filled) AddTo(m *stun.Message) error {
	const head = 4 // type and length of an attribute
	m.Add(attrFiller, make([]byte, int(size)-len(m.Raw)-head))
	return nil
}

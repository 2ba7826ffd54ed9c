package server

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/wattlenet/wattle/relay/internal/batch"
)

// socketBuffer is the size of the kernel's buffers for relayed sockets and
// listeners. With default buffers one TCP stream through the relay lost
// thousands of packets a second.
const socketBuffer = 7 << 20

// portAttempts bounds the search for a free port within a configured range.
const portAttempts = 64

// A PortRange limits the UDP ports of allocations, for firewalls. Zero lets the
// system choose.
type PortRange struct {
	Min, Max uint16
}

// An allocator opens the sockets of allocations. It implements
// turn.RelayAddressGenerator.
type allocator struct {
	gate *gate
	// bind is where sockets listen: the public address when the host has it,
	// else every address, as behind a one-to-one NAT.
	bind  netip.Addr
	ports PortRange
}

func (a *allocator) Validate() error { return nil }

// AllocateConn refuses: relaying TCP connections (RFC 6062) is not offered.
func (a *allocator) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, errors.ErrUnsupported
}

// AllocatePacketConn opens a relayed socket. It belongs to nobody, and passes
// nothing, until the ledger claims it.
func (a *allocator) AllocatePacketConn(_ string, port int) (net.PacketConn, net.Addr, error) {
	conn, err := a.listen(port)
	if err != nil {
		return nil, nil, fmt.Errorf("open relayed socket: %w", err)
	}
	if err := tuneBuffers(conn); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open relayed socket: %w", err), conn.Close())
	}
	batched, err := batch.New(conn)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open relayed socket: %w", err), conn.Close())
	}
	socket := &relayedSocket{
		UDPConn: conn,
		batch:   batched,
		gate:    a.gate,
		public:  a.gate.public,
		port:    addrPort(conn.LocalAddr()).Port(),
	}
	if err := a.gate.ledger.add(socket); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return socket, net.UDPAddrFromAddrPort(netip.AddrPortFrom(socket.public, socket.port)), nil
}

func (a *allocator) listen(port int) (*net.UDPConn, error) {
	if port != 0 || a.ports == (PortRange{}) {
		return net.ListenUDP("udp4", &net.UDPAddr{IP: a.bind.AsSlice(), Port: port})
	}
	var err error
	for range portAttempts {
		port := int(a.ports.Min) + rand.IntN(int(a.ports.Max)-int(a.ports.Min)+1) //nolint:gosec // a free port, not a secret
		var conn *net.UDPConn
		if conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: a.bind.AsSlice(), Port: port}); err == nil {
			return conn, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, fmt.Errorf("no free port in %s: %w", a.ports, err)
}

func (r PortRange) String() string {
	return strconv.Itoa(int(r.Min)) + "-" + strconv.Itoa(int(r.Max))
}

func tuneBuffers(conn syscall.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := setBuffers(raw, socketBuffer); err != nil {
		return fmt.Errorf("set socket buffers to %d bytes: %w", socketBuffer, err)
	}
	return nil
}

// A relayedSocket is the relayed transport address of one allocation (RFC 8656,
// section 2.3), through which it meets peers that are not on this relay. Packets
// between two allocations of this relay never pass through it: permissions are
// for an address, so on the relay's own they would open every service of the
// host and every other allocation. See forwarder.
type relayedSocket struct {
	*net.UDPConn
	batch  *batch.Conn
	gate   *gate
	public netip.Addr
	port   uint16

	owner  atomic.Pointer[allocation] // nil until claimed
	closed sync.Once
}

// WriteTo sends a packet of the client to a peer that it has permitted: pion
// calls it for Send indications. What may not be sent is dropped and counted;
// the length is returned as if it had left, since TURN has no answer to data.
func (s *relayedSocket) WriteTo(p []byte, addr net.Addr) (int, error) {
	if owner := s.owner.Load(); owner != nil {
		f := s.gate.forwarder()
		f.begin()
		f.send(owner, addrPort(addr), p)
		f.flush()
		s.gate.release(f)
	}
	return len(p), nil
}

// ReadFrom forwards what peers send until the socket is closed. Pion calls it
// from a goroutine of this allocation, and gets to see no packet.
func (s *relayedSocket) ReadFrom([]byte) (int, net.Addr, error) {
	for {
		in, err := s.batch.Receive()
		if err != nil {
			return 0, nil, err
		}
		f := s.gate.forwarder()
		f.begin()
		owner := s.owner.Load()
		for i := range in.Messages {
			m := &in.Messages[i]
			// Another program of this host, or somebody who pretends to be it.
			refused := owner == nil || m.From.Addr() == s.public
			for len(m.Bytes) > 0 {
				if payload := m.Next(); refused {
					f.count.dropped++
				} else {
					f.fromPeer(owner, m.From, payload)
				}
			}
		}
		f.flush()
		in.Release()
		s.gate.release(f)
	}
}

// Close ends the allocation; a second call does nothing.
func (s *relayedSocket) Close() error {
	var err error
	s.closed.Do(func() {
		err = s.UDPConn.Close()
		s.gate.ledger.drop(s)
	})
	return err
}

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
	ledger *ledger
	stats  *counters
	// public is the address that clients are told.
	public netip.Addr
	// bind is where sockets listen: public when the host has that address,
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
	socket := &relayedSocket{
		UDPConn: conn,
		ledger:  a.ledger,
		stats:   a.stats,
		public:  a.public,
		inner:   a.bind,
		port:    addrPort(conn.LocalAddr()).Port(),
	}
	if a.bind.IsUnspecified() {
		socket.inner = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if err := a.ledger.add(socket); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return socket, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.public, socket.port)), nil
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
// section 2.3). Permissions are for an address; on the relay's own address
// they would open every service of the host and every other allocation. So,
// packet by packet, only allocations of the same account meet here:
//
//	        public:40001            public:40002
//	client A ── allocation ──(inner)── allocation ── client B
//
// inner is how this host reaches its own sockets; it differs from public only
// behind a one-to-one NAT.
type relayedSocket struct {
	*net.UDPConn
	ledger *ledger
	stats  *counters
	public netip.Addr
	inner  netip.Addr
	port   uint16

	owner  atomic.Pointer[allocation] // nil until claimed
	closed sync.Once
}

// WriteTo sends a packet of the client to a peer. What may not be sent is
// dropped and counted; the length is returned as if it had left, since TURN
// has no answer to data.
func (s *relayedSocket) WriteTo(p []byte, addr net.Addr) (int, error) {
	to := addrPort(addr)
	if to.Addr() == s.public || to.Addr() == s.inner {
		if !s.meets(to.Port()) {
			s.stats.droppedPackets.Add(1)
			return len(p), nil
		}
		to = netip.AddrPortFrom(s.inner, to.Port())
	}
	if _, err := s.UDPConn.WriteToUDPAddrPort(p, to); err != nil {
		s.stats.droppedPackets.Add(1)
		if errors.Is(err, net.ErrClosed) {
			return 0, err
		}
		return len(p), nil
	}
	s.stats.packetsToPeers.Add(1)
	s.stats.bytesToPeers.Add(uint64(len(p)))
	return len(p), nil
}

// ReadFrom returns the next packet from a peer; pion compares its source with
// the permissions of the allocation.
func (s *relayedSocket) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := s.ReadFromUDPAddrPort(p)
		if err != nil {
			return 0, nil, err
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		own := from.Addr() == s.public || from.Addr() == s.inner
		// A full buffer is taken for a packet that was cut.
		if n == len(p) || own && !s.meets(from.Port()) {
			s.stats.droppedPackets.Add(1)
			continue
		}
		if own {
			from = netip.AddrPortFrom(s.public, from.Port())
		}
		s.stats.packetsFromPeers.Add(1)
		s.stats.bytesFromPeers.Add(uint64(n))
		return n, net.UDPAddrFromAddrPort(from), nil
	}
}

// meets reports whether port is an allocation of the same account.
func (s *relayedSocket) meets(port uint16) bool {
	other := s.ledger.sockets[port].Load()
	if other == nil {
		return false
	}
	mine, theirs := s.owner.Load(), other.owner.Load()
	return mine != nil && theirs != nil && mine.holder.Account == theirs.holder.Account
}

// Close ends the allocation; a second call does nothing.
func (s *relayedSocket) Close() error {
	var err error
	s.closed.Do(func() {
		err = s.UDPConn.Close()
		s.ledger.drop(s)
	})
	return err
}

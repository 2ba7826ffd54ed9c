package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// largestPacket is what UDP carries at most (RFC 768).
const largestPacket = 65535

// firstPeer is the first loopback address that stands for a peer:
// 127.64.0.1. There is room for four million.
const firstPeer = 127<<24 | 64<<16 | 1

// loop is one socket on the loopback that stands for every peer whose packets
// pass this process. Each has an address of 127.0.0.0/8, so that one socket is
// enough and the kernel's own roaming keeps them apart.
type loop struct {
	port   uint16 // ours
	kernel uint16 // of the tunnel
	socket *ipv4.PacketConn

	mu    sync.RWMutex // guards all below
	addrs map[PublicKey]netip.Addr
	peers map[netip.Addr]PublicKey
	next  uint32
}

func openLoop(kernel uint16) (*loop, error) {
	var failure error
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		err := raw.Control(func(fd uintptr) { failure = unix.BindToDevice(int(fd), "lo") })
		return errors.Join(err, failure)
	}}
	packets, err := config.ListenPacket(background, "udp4", "0.0.0.0:0")
	if err != nil {
		return nil, fmt.Errorf("socket on the loopback: %w", err)
	}
	l := &loop{
		port: uint16(packets.LocalAddr().(*net.UDPAddr).Port), kernel: kernel, socket: ipv4.NewPacketConn(packets),
		addrs: make(map[PublicKey]netip.Addr), peers: make(map[netip.Addr]PublicKey), next: firstPeer,
	}
	if err := l.socket.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return nil, errors.Join(fmt.Errorf("socket on the loopback: %w", err), packets.Close())
	}
	return l, nil
}

func (l *loop) learn(key PublicKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.addrs[key]; known {
		return
	}
	addr := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, l.next)))
	l.next++
	l.addrs[key], l.peers[addr] = addr, key
}

func (l *loop) forget(key PublicKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.peers, l.addrs[key])
	delete(l.addrs, key)
}

// address is where a peer stands, the zero address for one that is not known.
func (l *loop) address(key PublicKey) netip.Addr {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.addrs[key]
}

// toKernel hands a packet to the kernel as one from a peer.
func (l *loop) toKernel(packet []byte, from netip.Addr) {
	if !from.IsValid() {
		return
	}
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(l.kernel)}
	_, _ = l.socket.WriteTo(packet, &ipv4.ControlMessage{Src: from.AsSlice()}, to) // a datagram may be lost
}

// fromKernel reads the next packet of the kernel and the peer that it is for,
// the zero key when there is none. After close it returns net.ErrClosed.
func (l *loop) fromKernel(buf []byte) (int, PublicKey, error) {
	n, control, source, err := l.socket.ReadFrom(buf)
	if err != nil {
		return 0, PublicKey{}, err
	}
	from, ok := source.(*net.UDPAddr)
	if !ok || control == nil || !from.IP.IsLoopback() || from.Port != int(l.kernel) {
		return 0, PublicKey{}, nil
	}
	to, ok := netip.AddrFromSlice(control.Dst.To4())
	if !ok {
		return 0, PublicKey{}, nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return n, l.peers[to], nil
}

func (l *loop) close() error { return l.socket.Close() }

package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// background is for sockets that are opened without waiting.
var background = context.Background()

const udpHeader = 8 // RFC 768

// rawBind sends and receives beside the kernel's WireGuard on its UDP port: the
// packet filter of a raw socket lets through what is no WireGuard, and what is
// sent bears the port of the tunnel.
type rawBind struct {
	mark uint32

	mu   sync.Mutex // guards all below
	port uint16
	four *net.IPConn
	six  *net.IPConn // nil where the machine has no IPv6
}

var _ conn.Bind = (*rawBind)(nil)

// Open implements conn.Bind; the port is the kernel's.
func (r *rawBind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	four, err := listenRaw("ip4:udp", "0.0.0.0", r.mark)
	if err != nil {
		return nil, 0, fmt.Errorf("raw socket (needs root or CAP_NET_RAW): %w", err)
	}
	if err := ipv4.NewPacketConn(four).SetBPF(beside(port, true)); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("filter of the raw socket: %w", err), four.Close())
	}
	r.port, r.four = port, four
	receive := []conn.ReceiveFunc{r.receiver(four, port)}
	if six, err := listenRaw("ip6:udp", "::", r.mark); err == nil {
		packets := ipv6.NewPacketConn(six)
		if err := errors.Join(packets.SetBPF(beside(port, false)), packets.SetChecksum(true, 6)); err != nil {
			return nil, 0, errors.Join(fmt.Errorf("filter of the raw socket: %w", err), four.Close(), six.Close())
		}
		r.six = six
		receive = append(receive, r.receiver(six, port))
	}
	return receive, port, nil
}

func listenRaw(network, at string, mark uint32) (*net.IPConn, error) {
	var config net.ListenConfig
	packets, err := config.ListenPacket(background, network, at)
	if err != nil {
		return nil, err
	}
	socket, ok := packets.(*net.IPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a raw socket is a %T", packets), packets.Close())
	}
	if mark == 0 {
		return socket, nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	var failure error
	err = raw.Control(func(fd uintptr) { failure = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)) })
	if err = errors.Join(err, failure); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return socket, nil
}

// beside is the filter of a raw socket: UDP to the port whose first byte is
// below 0x80 (STUN, ChannelData) and that has not the shape of WireGuard, whose
// bytes 1 to 3 are zero. IPv4 comes with its header, IPv6 without.
func beside(port uint16, header bool) []bpf.RawInstruction {
	var load []bpf.Instruction
	if header {
		load = []bpf.Instruction{bpf.LoadMemShift{Off: 0}}
	} else {
		load = []bpf.Instruction{bpf.LoadConstant{Dst: bpf.RegX, Val: 0}}
	}
	program := append(load,
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(port), SkipTrue: 6},
		bpf.LoadIndirect{Off: udpHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: 0x80, SkipTrue: 4},
		bpf.LoadIndirect{Off: udpHeader, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x00ffffff},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: largestPacket},
		bpf.RetConstant{Val: 0},
	)
	raw, err := bpf.Assemble(program)
	if err != nil {
		panic(err) // the program does not depend on what happens
	}
	return raw
}

func (r *rawBind) receiver(socket *net.IPConn, port uint16) conn.ReceiveFunc {
	buf := make([]byte, largestPacket)
	return func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		n, from, err := socket.ReadFromIP(buf) // without the header of IPv4
		if err != nil {
			return 0, err
		}
		sizes[0] = 0
		addr, ok := netip.AddrFromSlice(from.IP)
		if n < udpHeader || !ok || binary.BigEndian.Uint16(buf[2:]) != port {
			return 1, nil
		}
		sizes[0] = copy(packets[0], buf[udpHeader:n])
		source := netip.AddrPortFrom(addr.Unmap().WithZone(from.Zone), binary.BigEndian.Uint16(buf))
		eps[0] = &conn.StdNetEndpoint{AddrPort: source}
		return 1, nil
	}
}

// Send implements conn.Bind. The checksum of IPv4 is left out, which RFC 768
// allows; the kernel fills in that of IPv6, which needs one (RFC 8200, section 8.1).
func (r *rawBind) Send(bufs [][]byte, to conn.Endpoint) error {
	endpoint, ok := to.(*conn.StdNetEndpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	addr := normal(endpoint.AddrPort)
	r.mu.Lock()
	socket, port := r.four, r.port
	if addr.Addr().Is6() {
		socket = r.six
	}
	r.mu.Unlock()
	if socket == nil {
		return fmt.Errorf("send to %s: %w", addr, net.ErrClosed)
	}
	destination := &net.IPAddr{IP: addr.Addr().AsSlice(), Zone: addr.Addr().Zone()}
	for _, buf := range bufs {
		packet := make([]byte, udpHeader, udpHeader+len(buf))
		binary.BigEndian.PutUint16(packet[0:], port)
		binary.BigEndian.PutUint16(packet[2:], addr.Port())
		binary.BigEndian.PutUint16(packet[4:], uint16(udpHeader+len(buf)))
		if _, err := socket.WriteToIP(append(packet, buf...), destination); err != nil {
			return err
		}
	}
	return nil
}

// Close implements conn.Bind.
func (r *rawBind) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	for _, socket := range []*net.IPConn{r.four, r.six} {
		if socket != nil {
			err = errors.Join(err, socket.Close())
		}
	}
	r.four, r.six = nil, nil
	return err
}

// SetMark implements conn.Bind; the mark is set when the sockets are opened.
func (r *rawBind) SetMark(uint32) error { return nil }

// BatchSize implements conn.Bind.
func (r *rawBind) BatchSize() int { return 1 }

// ParseEndpoint implements conn.Bind.
func (r *rawBind) ParseEndpoint(text string) (conn.Endpoint, error) {
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return nil, err
	}
	return &conn.StdNetEndpoint{AddrPort: addr}, nil
}

package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gvisoricmp "gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	pingPayload   = 16
	protocolICMP  = 1  // IANA protocol numbers
	protocolICMP6 = 58 //
)

// Ping sends one echo request (RFC 792, RFC 4443) to an overlay address and
// returns the round trip. It blocks until the answer or the end of ctx, whose
// error it returns then.
func (d *Device) Ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	connection, destination, err := d.echoSocket(to)
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", to, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = connection.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	rtt, err := echo(connection, destination, to.Is6())
	if closing := connection.Close(); err == nil {
		err = closing
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", to, err)
	}
	return rtt, nil
}

// echoSocket opens a socket that carries echo messages of one address.
func (d *Device) echoSocket(to netip.Addr) (net.PacketConn, net.Addr, error) {
	if d.stack != nil {
		return d.stack.echoSocket(to)
	}
	network, raw, wildcard := "udp4", "ip4:icmp", "0.0.0.0"
	if to.Is6() {
		network, raw, wildcard = "udp6", "ip6:ipv6-icmp", "::"
	}
	// Unprivileged sockets where the system allows them, else raw ones.
	if connection, err := icmp.ListenPacket(network, wildcard); err == nil {
		return connection, &net.UDPAddr{IP: to.AsSlice()}, nil
	}
	connection, err := icmp.ListenPacket(raw, wildcard)
	if err != nil {
		return nil, nil, fmt.Errorf("open an echo socket (needs root, or net.ipv4.ping_group_range): %w", err)
	}
	return connection, &net.IPAddr{IP: to.AsSlice()}, nil
}

func (s *stack) echoSocket(to netip.Addr) (net.PacketConn, net.Addr, error) {
	full, protocol := fullAddress(netip.AddrPortFrom(to, 0))
	transport := gvisoricmp.ProtocolNumber4
	if protocol == header.IPv6ProtocolNumber {
		transport = gvisoricmp.ProtocolNumber6
	}
	queue := &waiter.Queue{}
	endpoint, tcpipErr := s.net.NewEndpoint(transport, protocol, queue)
	if tcpipErr != nil {
		return nil, nil, fmt.Errorf("netstack: echo socket: %v", tcpipErr)
	}
	if tcpipErr := endpoint.Connect(full); tcpipErr != nil {
		endpoint.Close()
		return nil, nil, fmt.Errorf("netstack: no route: %v", tcpipErr)
	}
	return connected{gonet.NewUDPConn(queue, endpoint)}, nil, nil
}

// connected writes to the address its socket is connected to.
type connected struct{ *gonet.UDPConn }

func (c connected) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

// echo sends one request and waits for its answer.
func echo(connection net.PacketConn, to net.Addr, six bool) (time.Duration, error) {
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	protocol := protocolICMP
	if six {
		request, reply, protocol = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, protocolICMP6
	}
	token := rand.Uint64() //nolint:gosec // tells answers apart, keeps no secret
	payload := binary.BigEndian.AppendUint64(make([]byte, 0, pingPayload), token)
	message := icmp.Message{Type: request, Body: &icmp.Echo{ID: int(token & 0xffff), Seq: 1, Data: payload}}
	raw, err := message.Marshal(nil)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := connection.WriteTo(raw, to); err != nil {
		return 0, err
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := connection.ReadFrom(buf)
		if err != nil {
			return 0, err
		}
		rtt := time.Since(start)
		answer, err := icmp.ParseMessage(protocol, buf[:n])
		if err != nil || answer.Type != reply {
			continue
		}
		// The system chooses the identifier of unprivileged sockets, so the
		// payload is what tells our answer from others.
		if body, ok := answer.Body.(*icmp.Echo); ok && len(body.Data) >= 8 && binary.BigEndian.Uint64(body.Data) == token {
			return rtt, nil
		}
	}
}

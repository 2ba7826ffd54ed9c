package tunnel

import (
	"bytes"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// receiver is a socket that takes a train of segments in one read, so the size
// of a read shows what one system call has sent.
func receiver(t *testing.T) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failure error
	if err := raw.Control(func(fd uintptr) {
		failure = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	}); err != nil || failure != nil {
		t.Skipf("this kernel does not coalesce on receive: %v %v", err, failure)
	}
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestBatchesLeaveAsTrains(t *testing.T) {
	b := testBind(t)
	if _, _, err := b.Open(0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	const packets, size = 64, 1000
	batch := func() (bufs [][]byte) {
		for i := range packets {
			packet := make([]byte, size, 1<<16) // the device's buffers have this capacity
			copy(packet, transport(uint32(i), 32))
			bufs = append(bufs, packet)
		}
		return bufs
	}
	for name, path := range map[string]func(netip.AddrPort) *Path{
		"direct":  b.DirectPath,
		"channel": func(at netip.AddrPort) *Path { return b.OpenRelay(at, nil).Path(peerAddr, 0x4000) },
	} {
		t.Run(name, func(t *testing.T) {
			c, at := receiver(t)
			p := path(at)
			if err := p.send(batch()); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 1<<17)
			reads, bytesRead := 0, 0
			var all bytes.Buffer
			for bytesRead < packets*size {
				n, err := c.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				all.Write(buf[:n])
				bytesRead += n
				reads++
			}
			if perCall := float64(packets) / float64(reads); perCall <= 8 {
				t.Errorf("%.1f segments in one system call, want more than 8", perCall)
			}
			// Coalescing must not have mixed the packets up.
			stride := all.Len() / packets
			for i := range packets {
				packet := all.Bytes()[i*stride:]
				if name == "channel" {
					_, payload, ok := channelData(packet)
					if !ok {
						t.Fatalf("frame %d is broken", i)
					}
					packet = payload
				}
				if !bytes.Equal(packet[:32], transport(uint32(i), 32)) {
					t.Fatalf("packet %d is %x", i, packet[:32])
				}
			}
		})
	}
}

func TestTooBigATrainGoesSingly(t *testing.T) {
	b := testBind(t)
	refusing := &refusingBind{Bind: b.std}
	b.std = refusing
	p := b.DirectPath(peerAddr)
	three := [][]byte{{1}, {2}, {3}}
	if err := p.send(three); err != nil {
		t.Fatal(err)
	}
	if err := p.send(three); err != nil {
		t.Fatal(err)
	}
	if refusing.trains != 1 || refusing.singles != 6 {
		t.Errorf("%d trains and %d singles, want one train and then singles for good", refusing.trains, refusing.singles)
	}
	refusing.err = syscall.EMSGSIZE
	if err := p.send(three); err != nil || b.Drops().TooBig != 3 {
		t.Errorf("%v, %d dropped; want no error and 3", err, b.Drops().TooBig)
	}
}

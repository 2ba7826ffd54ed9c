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

// threePackets is a batch with the memory behind each packet that the device's have.
func threePackets(size int) (bufs [][]byte) {
	for range 3 {
		bufs = append(bufs, make([]byte, size, 1<<16))
	}
	return bufs
}

func TestTooBigATrainGoesSingly(t *testing.T) {
	b := testBind(t)
	refusing := &refusingBind{Bind: b.std, refusal: syscall.EMSGSIZE}
	b.std = refusing
	p := b.DirectPath(peerAddr)
	for range 2 {
		if err := p.send(threePackets(1000)); err != nil {
			t.Fatal(err)
		}
	}
	if refusing.trains != 1 || refusing.singles != 3 || refusing.batches != 1 {
		t.Errorf("%d trains, %d singles, %d batches; want one train, its packets, and then no more trains", refusing.trains, refusing.singles, refusing.batches)
	}
	if !p.Refused() || p.Refused() {
		t.Error("the path has to tell once that a train was too large for it")
	}
	p.SetMTU(900)
	if err := p.send(threePackets(1000)); err != nil || refusing.trains != 2 {
		t.Errorf("%v, %d trains; smaller packets may go as a train again", err, refusing.trains)
	}
	refusing.err = syscall.EMSGSIZE
	if err := p.send(threePackets(1000)); err != nil || b.Drops().TooBig != 3 {
		t.Errorf("%v, %d dropped; want no error and 3", err, b.Drops().TooBig)
	}
}

func TestFaultyOffloadIsGivenUp(t *testing.T) {
	b := testBind(t)
	refusing := &refusingBind{Bind: b.std, refusal: syscall.EINVAL}
	b.std = refusing
	p := b.DirectPath(peerAddr)
	for range faultsUntilSingle + 2 {
		if err := p.send(threePackets(1000)); err != nil {
			t.Fatal(err)
		}
	}
	if refusing.trains != faultsUntilSingle || p.Refused() {
		t.Errorf("%d trains, want %d and no word about the width of the path", refusing.trains, faultsUntilSingle)
	}
}

func TestSegmentationIsOffOnRequest(t *testing.T) {
	b := testBind(t)
	b.single = true
	refusing := &refusingBind{Bind: b.std, refusal: syscall.EIO}
	b.std = refusing
	for name, p := range map[string]*Path{"direct": b.DirectPath(peerAddr), "relay": b.OpenRelay(relayAddr, nil).Path(peerAddr, 0x4000)} {
		b.open.Store(true)
		if err := p.send(threePackets(1000)); err != nil || refusing.trains != 0 || refusing.batches == 0 {
			t.Errorf("%s: %v, %d trains, %d batches", name, err, refusing.trains, refusing.batches)
		}
		refusing.batches = 0
	}
}

func TestLargeMessagesAreNoticed(t *testing.T) {
	b := testBind(t)
	b.std = &refusingBind{Bind: b.std}
	p := b.DirectPath(peerAddr)
	if err := p.send([][]byte{make([]byte, safeMessage)}); err != nil {
		t.Fatal(err)
	}
	if _, ever := p.Laden(); ever {
		t.Error("a message that every link carries is taken for a large one")
	}
	if err := p.send([][]byte{{1}, make([]byte, safeMessage+1)}); err != nil {
		t.Fatal(err)
	}
	if _, ever := p.Laden(); !ever {
		t.Error("a large message is not noticed")
	}
}

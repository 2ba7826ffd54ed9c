package firewall

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/namespacetest"
	"github.com/wattlenet/wattle/internal/verdict/verdicttest"
)

// TestTUN runs the recorded cases through an interface of the host with the
// filter of the process behind it, in a namespace of its own.
func TestTUN(t *testing.T) {
	namespacetest.Run(t, namespacetest.Network, throughTUN)
}

// host is a machine whose interface is filtered by the process; the test
// stands where WireGuard would.
type host struct {
	t      *testing.T
	device tun.Device // filtered
	filter *queueing
	link   netlink.Link
	left   chan departure
}

// departure is a packet that the kernel sent into the interface.
type departure struct {
	raw    []byte
	passed bool
}

// queueing keeps the packets that it judged on their way out, in order.
type queueing struct {
	*Filter
	judged [][]byte // used by the goroutine that reads, alone
}

func (q *queueing) Outbound(raw []byte) bool {
	q.judged = append(q.judged, bytes.Clone(raw))
	return q.Filter.Outbound(raw)
}

func throughTUN(t *testing.T) {
	inner, err := tun.CreateTUN("wt0", 1280)
	if err != nil {
		t.Skipf("SKIPPED: no TUN interface here: %v", err)
	}
	h := &host{t: t, filter: &queueing{Filter: NewFilter()}, left: make(chan departure, 100)}
	h.device = tunnel.Filtered(inner, h.filter)
	ended := make(chan struct{})
	go func() { defer close(ended); h.read() }()
	t.Cleanup(func() { _ = h.device.Close(); <-ended })
	if h.link, err = netlink.LinkByName("wt0"); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(h.link); err != nil {
		t.Fatal(err)
	}
	port := uint16(40000)
	for _, c := range verdicttest.Cases(t) {
		for _, p := range c.Packets {
			port++ // no flow of a packet before helps this one
			if p.Source == p.Destination {
				continue // does not pass the tunnel
			}
			src, dst := addressOf(p.Source).IPv4, addressOf(p.Destination).IPv4
			if p.Protocol == protoICMPv6 {
				src, dst = addressOf(p.Source).IPv6, addressOf(p.Destination).IPv6
			}
			raw := build(src, dst, p.Protocol, port, p.Port)
			h.be(c, p.Source)
			if got := h.leaves(raw); got != p.Allowed {
				t.Errorf("%s: packet %+v leaves: %v, want %v", c.Name, p, got, p.Allowed)
			}
			h.be(c, p.Destination)
			if got := h.arrives(raw); got != p.Allowed {
				t.Errorf("%s: packet %+v arrives: %v, want %v", c.Name, p, got, p.Allowed)
			}
		}
	}
}

// be gives the interface the addresses of a peer and the filter its rules.
func (h *host) be(c verdicttest.Case, self uint32) {
	h.t.Helper()
	list, err := netlink.AddrList(h.link, netlink.FAMILY_ALL)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, addr := range list {
		if addr.Scope != int(netlink.SCOPE_LINK) {
			_ = netlink.AddrDel(h.link, &addr)
		}
	}
	for addr, bits := range map[netip.Addr]int{addressOf(self).IPv4: 16, addressOf(self).IPv6: 64} {
		network := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}
		if err := netlink.AddrAdd(h.link, &netlink.Addr{IPNet: network, Flags: unix.IFA_F_NODAD}); err != nil {
			h.t.Fatalf("address %s: %v", addr, err)
		}
	}
	if err := h.filter.Set(h.t.Context(), configFor(c, self)); err != nil {
		h.t.Fatal(err)
	}
}

// read takes what leaves, as the device would.
func (h *host) read() {
	const offset = 16
	bufs, sizes := make([][]byte, h.device.BatchSize()), make([]int, h.device.BatchSize())
	for i := range bufs {
		bufs[i] = make([]byte, offset+65535)
	}
	for {
		n, err := h.device.Read(bufs, sizes, offset)
		if err != nil {
			return
		}
		for i := range n {
			h.left <- departure{raw: h.filter.judged[i], passed: sizes[i] > 0}
		}
		h.filter.judged = nil
	}
}

// leaves lets the kernel send a packet and reports whether the device got it.
func (h *host) leaves(raw []byte) bool {
	h.t.Helper()
	family, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte(raw[16:20])})
	if raw[0]>>4 == 6 {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(raw[24:40])}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Sendto(fd, raw, 0, to); err != nil {
		h.t.Fatal(err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case d := <-h.left: // the kernel sends more than this one
			if bytes.HasSuffix(d.raw, raw[len(raw)-24:]) && d.raw[0]>>4 == raw[0]>>4 {
				return d.passed
			}
		case <-timer.C:
			h.t.Fatal("the kernel did not send the packet")
		}
	}
}

// arrives lets a packet come out of the tunnel and reports whether the kernel got it.
func (h *host) arrives(raw []byte) bool {
	h.t.Helper()
	before := h.received()
	const offset = 16
	if _, err := h.device.Write([][]byte{append(make([]byte, offset), raw...)}, offset); err != nil {
		h.t.Fatal(err)
	}
	return h.received() > before
}

func (h *host) received() uint64 {
	h.t.Helper()
	link, err := netlink.LinkByName("wt0")
	if err != nil {
		h.t.Fatal(err)
	}
	return link.Attrs().Statistics.RxPackets
}

package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring"
	"github.com/google/nftables/expr"
	mdlayher "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/namespacetest"
	"github.com/wattlenet/wattle/internal/verdict/verdicttest"
)

// TestKernel runs in a network namespace of its own, where it may hold
// interfaces and tables without root.
func TestKernel(t *testing.T) {
	namespacetest.Run(t, namespacetest.Network, testKernel)
}

// bench is a namespace with the tunnel's interface, whose far end is the test.
type bench struct {
	t      *testing.T
	kernel *Kernel
	tunnel tun.Device
	link   netlink.Link
	port   uint16
	self   uint32 // whose addresses the interface has
}

func testKernel(t *testing.T) {
	device, err := tun.CreateTUN("wt0", 1280)
	if err != nil {
		t.Skipf("SKIPPED: no TUN interface here: %v", err)
	}
	t.Cleanup(func() { _ = device.Close() })
	go func() { // what the kernel sends out must be read, else it queues
		buf := [][]byte{make([]byte, 65535)}
		for sizes := []int{0}; ; {
			if _, err := device.Read(buf, sizes, 10); err != nil {
				return
			}
		}
	}()
	kernel, err := NewKernel(Options{Logger: slog.New(slog.DiscardHandler), Interface: "wt0"})
	if err != nil {
		t.Skipf("SKIPPED: no nftables here: %v", err)
	}
	link, err := netlink.LinkByName("wt0")
	if err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.LinkSetUp(link), netlink.LinkSetUp(lo)); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, kernel: kernel, tunnel: device, link: link, port: 40000, self: ^uint32(0)}
	t.Run("recorded verdicts", b.recordedVerdicts)
	t.Run("a rule that goes cuts its flows", b.cut)
	t.Run("a rule in another form goes on counting", b.counts)
	t.Run("deltas", b.deltas)
	t.Run("hundreds of rules", b.manyRules)
	t.Run("ten thousand members", b.manyMembers)
	t.Run("forged addresses", b.forged)
	t.Run("routed traffic", b.routed)
	t.Run("close leaves nothing", b.leavesNothing)
}

// be gives the interface the addresses of a peer.
func (b *bench) be(n uint32) {
	b.t.Helper()
	if b.self == n {
		return
	}
	b.self = n
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.AddrList(b.link, family)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, addr := range list {
			if addr.Scope != int(netlink.SCOPE_LINK) {
				_ = netlink.AddrDel(b.link, &addr)
			}
		}
	}
	self := addressOf(n)
	for addr, bits := range map[netip.Addr]int{self.IPv4: 16, self.IPv6: 64} {
		network := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}
		if err := netlink.AddrAdd(b.link, &netlink.Addr{IPNet: network, Flags: unix.IFA_F_NODAD}); err != nil {
			b.t.Fatalf("address %s: %v", addr, err)
		}
		b.isLocal(addr)
	}
}

// isLocal waits until the kernel takes packets for addr: of IPv6 it does so a
// moment after the address was added, without duplicate address detection, too.
func (b *bench) isLocal(addr netip.Addr) {
	b.t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteGet(addr.AsSlice())
		if err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
		if time.Now().After(limit) {
			b.t.Fatalf("%s is no address of this machine: %v, %v", addr, routes, err)
		}
	}
}

func (b *bench) set(c Config) {
	b.t.Helper()
	if err := b.kernel.Set(b.t.Context(), c); err != nil {
		b.t.Fatal(err)
	}
}

// arrive lets a packet come out of the tunnel and reports whether a rule of the
// map, or the flow it belongs to, accepted it.
func (b *bench) arrive(raw []byte) bool {
	b.t.Helper()
	before := b.refused()
	if _, err := b.tunnel.Write([][]byte{append(make([]byte, 10), raw...)}, 10); err != nil {
		b.t.Fatal(err)
	}
	return b.refused() == before
}

// refused sums the counters of everything that drops what comes from the tunnel.
func (b *bench) refused() uint64 { return b.refusedBy(chainIn, chainCarried) }

func (b *bench) refusedBy(chains ...string) (n uint64) {
	b.t.Helper()
	for _, chain := range chains {
		for _, part := range []string{"", drops} {
			rules, err := b.kernel.conn.GetRules(b.kernel.table, b.kernel.chains[chain+part])
			if err != nil {
				b.t.Fatal(err)
			}
			for _, rule := range rules {
				for _, e := range rule.Exprs {
					if counter, ok := e.(*expr.Counter); ok {
						n += counter.Packets
					}
				}
			}
		}
	}
	return n
}

// leave sends a packet into the tunnel and reports whether the filter let it.
func (b *bench) leave(raw []byte) bool {
	b.t.Helper()
	family, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte(raw[16:20])})
	if raw[0]>>4 == 6 {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(raw[24:40])}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	err = unix.Sendto(fd, raw, 0, to)
	if err != nil && !errors.Is(err, unix.EPERM) {
		b.t.Fatalf("send: %v", err)
	}
	return err == nil
}

func (b *bench) recordedVerdicts(t *testing.T) {
	b.t = t
	for _, c := range verdicttest.Cases(t) {
		for _, inbound := range []bool{true, false} {
			for _, p := range c.Packets {
				if p.Source == p.Destination {
					continue // does not pass the tunnel
				}
				self := p.Source
				if inbound {
					self = p.Destination
				}
				b.be(self)
				b.set(configFor(c, self))
				b.recorded(c.Name, p, inbound)
				if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// recorded sends one recorded packet, and its reply if it is allowed.
func (b *bench) recorded(name string, p verdicttest.Packet, inbound bool) {
	b.t.Helper()
	b.port++
	src, dst := ends(p)
	raw := build(src, dst, p.Protocol, b.port, p.Port)
	judge, back := b.leave, b.arrive
	if inbound {
		judge, back = b.arrive, b.leave
	}
	if inbound && p.Protocol == protoTCP && p.Port != 0 { // a refusal would end the flow by itself
		var config net.ListenConfig
		listener, err := config.Listen(b.t.Context(), "tcp", netip.AddrPortFrom(dst, p.Port).String())
		if err != nil {
			b.t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
	}
	before := b.kernel.Status()
	if got := judge(raw); got != p.Allowed {
		b.t.Errorf("%s: packet %+v inbound %v: %v, want %v", name, p, inbound, got, p.Allowed)
	}
	// The reply makes the kernel say more.
	if got := countedBy(b.t, before.Monitored, b.kernel.Status().Monitored, len(raw)); !slices.Equal(got, p.Watched) {
		b.t.Errorf("%s: packet %+v inbound %v: counted by %v, want %v", name, p, inbound, got, p.Watched)
	}
	if got := strings.Join(countedBy(b.t, before.Matched, b.kernel.Status().Matched, len(raw)), " "); got != p.Rule {
		b.t.Errorf("%s: packet %+v inbound %v: counted for %q, want %q", name, p, inbound, got, p.Rule)
	}
	if p.Allowed && p.Port != 0 && !back(reply(p, b.port)) {
		b.t.Errorf("%s: the reply to packet %+v inbound %v does not pass", name, p, inbound)
	}
}

func (b *bench) cut(t *testing.T) {
	b.t = t
	b.be(1)
	// Somebody must listen: a refusal would end the flow by itself.
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	for _, pair := range [][2]netip.Addr{{there.IPv4, here.IPv4}, {there.IPv6, here.IPv6}} {
		them, us := pair[0], pair[1]
		b.port++
		question, answer := segment(them, us, b.port, 80, flagSYN), segment(us, them, 80, b.port, flagSYN|flagACK)
		for _, raw := range [][]byte{question, answer} {
			fixAll(raw)
		}
		b.set(twoPeers(out("icmp")))
		if b.leave(answer) {
			t.Errorf("%s: answer without a question left", us)
		}
		b.set(twoPeers(in("tcp", 80), out("icmp")))
		if !b.arrive(question) || !b.leave(answer) {
			t.Fatalf("%s: a permitted flow does not pass", us)
		}
		b.set(twoPeers(out("all"))) // what follows may leave, but not as part of the old flow
		for range 3 {
			if b.leave(answer) {
				t.Errorf("%s: repeated answer left after the rule went", us)
			}
			if b.arrive(question) {
				t.Errorf("%s: question came in after the rule went", us)
			}
		}
	}
}

// counts follows the counter of a rule through other forms of it and a table that
// is made anew, until the rule goes.
func (b *bench) counts(t *testing.T) {
	b.t = t
	b.be(1)
	matched := func() (packets uint64) {
		for _, met := range b.kernel.Status().Matched {
			if met.Rule == "in" {
				packets += met.Packets
			}
		}
		return packets
	}
	question := func() []byte {
		b.port++
		return build(there.IPv4, here.IPv4, protoUDP, b.port, 80)
	}
	b.set(twoPeers())
	b.set(twoPeers(in("udp")))
	began := matched()
	widened := twoPeers(in("udp", 80), out("all"))
	widened.Networks = append(slices.Clone(widened.Networks[:1]), netip.MustParsePrefix("fd00:64::/63"))
	for i, c := range []Config{twoPeers(in("udp")), twoPeers(in("udp", 80)), widened} {
		b.set(c)
		if !b.arrive(question()) {
			t.Fatalf("step %d: a permitted packet does not pass", i)
		}
		if got := matched() - began; got != uint64(i+1) {
			t.Errorf("step %d: %d packets counted, want %d", i, got, i+1)
		}
	}
	b.set(twoPeers(out("all")))
	b.set(twoPeers(in("udp")))
	if got := matched(); got != 0 {
		t.Errorf("a rule that comes again begins with %d packets", got)
	}
}

// fixAll renews the transport checksum after a test changed the flags.
func fixAll(raw []byte) {
	if raw[0]>>4 == 4 {
		fixTransport(raw, raw[20:], raw[9])
		return
	}
	fixTransport(raw, raw[40:], raw[6])
}

func (b *bench) deltas(t *testing.T) {
	b.t = t
	b.be(1)
	third := addressOf(3)
	config := func(members ...uint32) Config {
		c := twoPeers(in("udp", 53, 60))
		c.Peers = c.Peers.With(3, third)
		c.Sets = c.Sets.With("them", roaring.BitmapOf(members...))
		return c
	}
	ask := func(from netip.Addr) bool {
		b.port++
		return b.arrive(build(from, here.IPv4, protoUDP, b.port, 55))
	}
	for _, step := range []struct{ second, third bool }{{true, false}, {true, true}, {false, true}, {false, false}, {true, true}} {
		var members []uint32
		if step.second {
			members = append(members, 2)
		}
		if step.third {
			members = append(members, 3)
		}
		b.set(config(members...))
		table := b.kernel.table
		if got := ask(there.IPv4); got != step.second {
			t.Errorf("members %v: the second passes: %v", members, got)
		}
		if got := ask(third.IPv4); got != step.third {
			t.Errorf("members %v: the third passes: %v", members, got)
		}
		if b.kernel.table != table {
			t.Error("a new member made a new table")
		}
	}
}

func (b *bench) manyMembers(t *testing.T) {
	b.t = t
	b.be(1)
	c := twoPeers(in("all"))
	everybody := roaring.New()
	everybody.AddRange(2, 10002)
	for n := range uint32(10002) {
		c.Peers = c.Peers.With(n, addressOf(n))
	}
	c.Sets = c.Sets.With("them", everybody)
	begun := time.Now()
	b.set(c)
	t.Logf("10,000 members and their rule: %v", time.Since(begun))
	if !b.arrive(build(addressOf(10001).IPv4, here.IPv4, protoUDP, 1, 2)) {
		t.Error("the last member does not pass")
	}
	fewer := everybody.Clone()
	fewer.Remove(10001)
	next := c
	next.Sets = c.Sets.With("them", fewer)
	begun = time.Now()
	b.set(next)
	t.Logf("one member less: %v", time.Since(begun))
	if b.arrive(build(addressOf(10001).IPv4, here.IPv4, protoUDP, 1, 2)) {
		t.Error("a former member passes")
	}
}

func (b *bench) forged(t *testing.T) {
	b.t = t
	b.be(1)
	b.set(twoPeers(in("all")))
	other, err := tun.CreateTUN("other0", 1280)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	link, err := netlink.LinkByName("other0")
	if err != nil {
		t.Fatal(err)
	}
	local := &net.IPNet{IP: net.IPv4(192, 0, 2, 1).To4(), Mask: net.CIDRMask(24, 32)}
	if err := errors.Join(netlink.LinkSetUp(link), netlink.AddrAdd(link, &netlink.Addr{IPNet: local})); err != nil {
		t.Fatal(err)
	}
	var config net.ListenConfig
	socket, err := config.ListenPacket(context.Background(), "udp4", "192.0.2.1:99")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	for _, from := range []string{"100.64.0.2", "192.0.2.9"} {
		raw := build(netip.MustParseAddr(from), netip.MustParseAddr("192.0.2.1"), protoUDP, 5, 99)
		if _, err := other.Write([][]byte{append(make([]byte, 10), raw...)}, 10); err != nil {
			t.Fatal(err)
		}
	}
	_ = socket.SetReadDeadline(time.Now().Add(patience))
	_, from, err := socket.ReadFrom(make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(from); got != "192.0.2.9:5" {
		t.Errorf("a packet from %s came in by another interface", got)
	}
	// The tunnel reaches none of the other addresses of the machine.
	b.port++
	if b.arriveQuietly(build(there.IPv4, netip.MustParseAddr("192.0.2.1"), protoUDP, b.port, 99), socket) {
		t.Error("a peer reached another address of the machine")
	}
}

// arriveQuietly reports whether a packet reaches a socket, with an honest
// packet behind it as the end of the wait.
func (b *bench) arriveQuietly(raw []byte, socket net.PacketConn) bool {
	b.t.Helper()
	if _, err := b.tunnel.Write([][]byte{append(make([]byte, 10), raw...)}, 10); err != nil {
		b.t.Fatal(err)
	}
	fence, err := net.Dial("udp4", socket.LocalAddr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = fence.Close() }()
	if _, err := fence.Write([]byte("fence")); err != nil {
		b.t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, _, err := socket.ReadFrom(buf)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(buf[:n]) != "fence"
}

// lan is an interface of the machine behind which destinations are.
func (b *bench) lan(routes ...string) tun.Device {
	b.t.Helper()
	lan, err := tun.CreateTUN("lan0", 1500)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = lan.Close() })
	link, err := netlink.LinkByName("lan0")
	if err != nil {
		b.t.Fatal(err)
	}
	local := &net.IPNet{IP: net.IPv4(192, 0, 2, 77).To4(), Mask: net.CIDRMask(32, 32)}
	if err := errors.Join(netlink.LinkSetUp(link), netlink.AddrAdd(link, &netlink.Addr{IPNet: local})); err != nil {
		b.t.Fatal(err)
	}
	for _, text := range routes {
		_, prefix, err := net.ParseCIDR(text)
		if err != nil {
			b.t.Fatal(err)
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: prefix, LinkIndex: link.Attrs().Index}); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, name := range []string{"ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte("1"), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	return lan
}

func (b *bench) routed(t *testing.T) {
	b.t = t
	b.be(1)
	lan := b.lan("10.1.0.0/16", "10.3.0.0/16", "198.51.100.0/24", "fd12:1::/48")
	for _, text := range []string{"10.2.0.0/16", "10.4.0.0/16", "fd12:2::/48"} {
		_, prefix, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: prefix, LinkIndex: b.link.Attrs().Index}); err != nil {
			t.Fatal(err)
		}
	}
	b.set(routedConfig())
	if err := b.kernel.Learn("nothing", learnedAddress, time.Minute); err == nil {
		t.Error("addresses of an unknown route are taken")
	}
	for range 2 { // the second time prolongs
		if err := b.kernel.Learn("named", learnedAddress, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range routedCases {
		b.port++
		raw := c.packet(b.port)
		var got bool
		switch {
		case c.inbound:
			got = b.arrive(raw)
		case c.src == here.IPv4.String(), c.src == here.IPv6.String():
			got = b.leave(raw)
		default:
			before := b.refusedBy(chainOpened)
			if _, err := lan.Write([][]byte{append(make([]byte, 10), raw...)}, 10); err != nil {
				t.Fatal(err)
			}
			got = b.refusedBy(chainOpened) == before
		}
		if got != c.allowed {
			t.Errorf("%+v: %v", c, got)
		}
	}
	b.masquerades(lan)
	// Nothing of it is left with the rules: no tracking of every connection.
	b.set(twoPeers())
	if b.kernel.chains[chainMasquerade] != nil {
		t.Error("the chain of masquerading is still there")
	}
	b.port++
	if b.arrive(build(there.IPv4, netip.MustParseAddr("10.1.0.5"), protoTCP, b.port, 80)) {
		t.Error("traffic is carried without a rule")
	}
}

// masquerades looks for a carried packet behind the machine: it has the
// machine's own address, and asks for no larger segments than the tunnel takes.
func (b *bench) masquerades(lan tun.Device) {
	b.t.Helper()
	b.port++
	if !b.arrive(build(there.IPv4, netip.MustParseAddr("10.1.77.1"), protoTCP, b.port, 80)) {
		b.t.Fatal("a carried packet is dropped")
	}
	buf, sizes := [][]byte{make([]byte, 2000)}, []int{0}
	for {
		if _, err := lan.Read(buf, sizes, 0); err != nil {
			b.t.Fatal(err)
		}
		var p, inner packet
		if parse(buf[0][:sizes[0]], &p, &inner) && p.dst == netip.MustParseAddr("10.1.77.1") {
			if p.src != netip.MustParseAddr("192.0.2.77") {
				b.t.Errorf("a carried packet comes from %s", p.src)
			}
			return
		}
	}
}

func (b *bench) leavesNothing(t *testing.T) {
	b.t = t
	for range 2 {
		if err := b.kernel.Close(); err != nil {
			t.Fatal(err)
		}
	}
	tables, err := b.kernel.conn.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	if len(tables) != 0 {
		t.Errorf("%d tables are left", len(tables))
	}
	b.set(twoPeers(in("all"))) // and it can begin again
	if err := b.kernel.Close(); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) manyRules(t *testing.T) {
	b.t = t
	b.be(1)
	var rules []api.CompiledRule
	for port := range 600 {
		rule := in("tcp", 1000+2*port)
		rule.Id = fmt.Sprint("rule-", port)
		rules = append(rules, rule)
	}
	b.set(twoPeers(in("all")))
	former := committed(t)
	b.set(twoPeers(rules...)) // more answers than a usual socket holds
	if steps := committed(t) - former; steps != 1 {
		t.Errorf("hundreds of rules took %d transactions", steps)
	}
	b.set(twoPeers(in("all"), rules[0]))
	b.set(twoPeers(in("all")))

	// Where the buffers of sockets are bounded it takes several.
	large := b.kernel.conn
	defer func() { b.kernel.conn = large }()
	b.kernel.conn = &connection{buffer: 1 << 16}
	if err := b.kernel.conn.open(); err != nil {
		t.Fatal(err)
	}
	former = committed(t)
	b.set(twoPeers(rules...))
	if steps := committed(t) - former; steps < 2 {
		t.Errorf("hundreds of rules took %d transactions", steps)
	}
	b.set(twoPeers(in("all"), rules[0]))
	b.set(twoPeers(in("all")))
	if err := b.kernel.conn.Close(); err != nil {
		t.Error(err)
	}
}

// committed counts the transactions of this network namespace.
func committed(t *testing.T) uint32 {
	t.Helper()
	conn, err := mdlayher.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	answers, err := conn.Execute(mdlayher.Message{
		Header: mdlayher.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: mdlayher.Request},
		Data:   make([]byte, 4), // struct nfgenmsg
	})
	if err != nil || len(answers) != 1 {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	attributes, err := mdlayher.NewAttributeDecoder(answers[0].Data[4:])
	if err != nil {
		t.Fatal(err)
	}
	attributes.ByteOrder = binary.BigEndian
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_GEN_ID {
			return attributes.Uint32()
		}
	}
	t.Fatalf("the kernel tells no generation: %v", attributes.Err())
	return 0
}

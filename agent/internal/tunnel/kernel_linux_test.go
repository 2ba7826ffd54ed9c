package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/wattlenet/wattle/internal/namespacetest"
)

// TestKernelWireGuard runs in a network namespace of its own. Where the kernel
// has no WireGuard, `make test-kernel` runs it in an emulated machine.
func TestKernelWireGuard(t *testing.T) {
	namespacetest.Run(t, namespacetest.Network, throughKernel)
}

// pair is a machine with the kernel's WireGuard and one in netstack mode.
type pair struct {
	t            *testing.T
	host, other  *Device
	hostKey, key PrivateKey
	strict       bool
}

func throughKernel(t *testing.T) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, hostKey: GenerateKey(), key: GenerateKey()}
	p.host, err = New(Config{Logger: slog.New(slog.DiscardHandler), PrivateKey: p.hostKey, Mode: ModeKernel, Interface: "wt7"})
	if errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skip("SKIPPED: this kernel has no WireGuard; make test-kernel emulates a machine that has")
	}
	if err != nil {
		t.Fatal(err)
	}
	if p.host.Mode() != ModeKernel || p.host.Interface() != "wt7" || p.host.Bind().Port() == 0 {
		t.Fatalf("mode %s, interface %s, port %d", p.host.Mode(), p.host.Interface(), p.host.Bind().Port())
	}
	conformsAddressing(t, p.host.host)
	p.settle()
	p.wakes()
	p.mixes()
	p.speaksSTUN()
	p.goesThroughRelay()
	p.tellsEvidence()
	p.roams()
	p.ends()
	tellsItsEnd(t)
}

// tellsItsEnd: a device whose interface somebody removes says so.
func tellsItsEnd(t *testing.T) {
	t.Helper()
	device, err := New(Config{Logger: slog.New(slog.DiscardHandler), PrivateKey: GenerateKey(), Mode: ModeKernel, Interface: "wt8"})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-device.Ended():
		t.Error("it has ended before")
	default:
	}
	if err := removeLink("wt8"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-device.Ended():
	case <-time.After(time.Minute):
		t.Error("it does not notice")
	}
	if err := device.Close(); err != nil {
		t.Error(err)
	}
}

// settle gives both machines addresses and each other.
func (p *pair) settle() {
	p.t.Helper()
	if p.other == nil {
		p.other = newTestDevice(p.t, p.key, "10.9.0.2", nil)
	}
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	for device, settings := range map[*Device]Settings{
		p.host: {
			RequirePresharedKey: p.strict,
			Addresses:           prefixes("10.9.0.1/24", "fd09::1/64"),
			Peers:               tableOf(Peer{PublicKey: p.key.Public(), AllowedIPs: prefixes("10.9.0.2/32", "fd09::2/128")}),
		},
		p.other: {
			Addresses: prefixes("10.9.0.2/24", "fd09::2/64"),
			Peers:     tableOf(Peer{PublicKey: p.hostKey.Public(), AllowedIPs: prefixes("10.9.0.1/32", "fd09::1/128")}),
		},
	} {
		for range 2 {
			if err := device.Set(p.t.Context(), settings); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

// mixes: a key that is required ends the session without, one that was agreed on
// begins another, and the next one leaves it alone.
func (p *pair) mixes() {
	p.t.Helper()
	p.strict = true
	p.settle()
	for from, to := range map[*Device]string{p.host: "10.9.0.2", p.other: "10.9.0.1"} {
		ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
		if _, err := from.Ping(ctx, netip.MustParseAddr(to)); err == nil {
			p.t.Errorf("%s answers without a key", to)
		}
		cancel()
	}
	agree := func(key PresharedKey) {
		p.t.Helper()
		host, other := p.hostKey.Public(), p.key.Public()
		if err := errors.Join(p.host.SetPresharedKey(host, other, key), p.other.SetPresharedKey(other, host, key)); err != nil {
			p.t.Fatal(err)
		}
		if p.peer().PresharedKey != wgtypes.Key(key.bytes) {
			p.t.Error("the kernel has another key")
		}
	}
	agree(randomPresharedKey())
	p.host.Rekey(p.key.Public())
	p.other.Rekey(p.hostKey.Public())
	p.ping(p.host, "10.9.0.2")
	p.ping(p.other, "10.9.0.1")
	began := p.peer().LastHandshakeTime
	agree(randomPresharedKey())
	p.ping(p.host, "10.9.0.2")
	if again := p.peer().LastHandshakeTime; !again.Equal(began) {
		p.t.Errorf("the session of %v was replaced at %v", began, again)
	}
	p.strict = false
	p.settle()
	p.ping(p.other, "10.9.0.1")
}

func (p *pair) ping(from *Device, to string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	if _, err := from.Ping(ctx, netip.MustParseAddr(to)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) toOther() *Endpoint { return p.host.Bind().Endpoint(p.key.Public()) }

func (p *pair) direct() *Path { return p.host.Bind().DirectPath(loopback(p.other)) }

// peer is what the kernel knows of the other machine.
func (p *pair) peer() wgtypes.Peer {
	p.t.Helper()
	wg, ok := p.host.wg.(*kernel)
	if !ok {
		p.t.Fatalf("the device is a %T", p.host.wg)
	}
	state, err := wg.client.Device("wt7")
	if err != nil || len(state.Peers) != 1 {
		p.t.Fatalf("state %+v, %v", state, err)
	}
	return state.Peers[0]
}

// wakes: the first packet to an idle peer is kept, wakes it, and arrives.
func (p *pair) wakes() {
	p.t.Helper()
	pinged := make(chan struct{})
	go func() {
		defer close(pinged)
		ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
		defer cancel()
		if _, err := p.host.Ping(ctx, netip.MustParseAddr("10.9.0.2")); err != nil {
			p.t.Error(err)
		}
	}()
	if e := next(p.t, p.host.Bind()); e.Kind != Wake || e.Peer != p.key.Public() {
		p.t.Fatalf("event %+v", e)
	}
	p.toOther().Use(p.direct(), nil)
	<-pinged
	p.ping(p.host, "fd09::2")
	p.ping(p.other, "10.9.0.1")
	if at := p.peer().Endpoint.AddrPort(); normal(at) != loopback(p.other) {
		p.t.Errorf("the kernel sends to %s, want %s", at, loopback(p.other))
	}
	stats, err := p.host.Stats()
	if got := stats[p.key.Public()]; err != nil || got.ReceivedBytes == 0 || got.SentBytes == 0 || got.LastHandshake.IsZero() {
		p.t.Errorf("counters %+v, %v", got, err)
	}
}

// speaksSTUN: on the kernel's own port, over both versions of IP.
func (p *pair) speaksSTUN() {
	p.t.Helper()
	message := make([]byte, stunHeaderSize)
	binary.BigEndian.PutUint16(message, 1) // Binding request
	binary.BigEndian.PutUint32(message[4:], stunCookie)
	for _, addr := range []string{"127.0.0.1", "::1"} {
		for _, way := range [][2]*Device{{p.host, p.other}, {p.other, p.host}} {
			from, to := way[0].Bind(), way[1].Bind()
			message[19]++
			if err := from.WriteSTUN(message, netip.AddrPortFrom(netip.MustParseAddr(addr), to.Port())); err != nil {
				p.t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
			got, err := to.ReadSTUN(ctx)
			cancel()
			want := netip.AddrPortFrom(netip.MustParseAddr(addr), from.Port())
			if err != nil || string(got.Payload) != string(message) || got.Addr != want {
				p.t.Errorf("STUN % x from %s, %v; want % x from %s", got.Payload, got.Addr, err, message, want)
			}
		}
	}
}

// exchange is a relay for two: what one sends goes to the other.
func exchange(t *testing.T, a, b netip.AddrPort) (netip.AddrPort, *atomic.Int64) {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { _ = socket.Close(); <-ended })
	carried := &atomic.Int64{}
	go func() {
		defer close(ended)
		buf := make([]byte, largestPacket)
		for {
			n, from, err := socket.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			to := a
			if normal(from) == a {
				to = b
			}
			carried.Add(1)
			_, _ = socket.WriteToUDPAddrPort(buf[:n], to)
		}
	}()
	return normal(socket.LocalAddr().(*net.UDPAddr).AddrPort()), carried
}

// goesThroughRelay: a session that was made directly goes on through a relay,
// and new ones are made through it from both sides.
func (p *pair) goesThroughRelay() {
	p.t.Helper()
	at, carried := exchange(p.t, loopback(p.host), loopback(p.other))
	const channel = firstChannel + 1
	relayed := netip.MustParseAddrPort("192.0.2.1:1") // of the peer, as the relay would call it
	p.toOther().Use(p.host.Bind().OpenRelay(at, nil).Path(relayed, channel), nil)
	back := p.other.Bind().Endpoint(p.hostKey.Public())
	back.Use(p.other.Bind().OpenRelay(at, nil).Path(relayed, channel), nil)
	p.ping(p.host, "10.9.0.2")
	if carried.Load() == 0 {
		p.t.Error("nothing went through the relay")
	}
	if at := p.peer().Endpoint.AddrPort(); !at.Addr().IsLoopback() || normal(at) == loopback(p.other) {
		p.t.Errorf("the kernel sends to %s", at)
	}
	p.host.Rekey(p.key.Public())
	p.ping(p.host, "10.9.0.2")
	p.other.Rekey(p.hostKey.Public())
	p.ping(p.other, "10.9.0.1")

	back.Use(p.other.Bind().DirectPath(loopback(p.host)), nil)
	p.toOther().Use(p.direct(), nil)
	before := carried.Load()
	p.ping(p.host, "10.9.0.2")
	if carried.Load() != before {
		p.t.Error("a direct packet went through the relay")
	}
}

// tellsEvidence: a path whose packets do not pass the process is known to be alive.
func (p *pair) tellsEvidence() {
	p.t.Helper()
	path := p.direct()
	p.toOther().Use(path, nil)
	limit := time.Now().Add(20 * time.Second)
	for {
		p.ping(p.host, "10.9.0.2")
		_, received := path.Received()
		_, sent := path.Sent()
		if received && sent {
			return
		}
		if time.Now().After(limit) {
			p.t.Fatalf("received %t, sent %t", received, sent)
		}
	}
}

// roams: a peer that is idle here and authenticates itself from somewhere is
// answered there, and connectivity is told.
func (p *pair) roams() {
	p.t.Helper()
	p.toOther().Idle()
	p.ping(p.other, "10.9.0.1")
	for {
		e := next(p.t, p.host.Bind())
		if e.Kind == Arrived {
			if e.Addr != loopback(p.other) {
				p.t.Errorf("arrived from %s", e.Addr)
			}
			break
		}
	}
	if path := p.toOther().Primary(); path == nil || path.Addr() != loopback(p.other) {
		p.t.Errorf("path %s", path)
	}
}

// ends: a peer that leaves is gone, and so is the interface.
func (p *pair) ends() {
	p.t.Helper()
	if err := p.host.Set(p.t.Context(), Settings{Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}}); err != nil {
		p.t.Fatal(err)
	}
	wg := p.host.wg.(*kernel)
	if state, err := wg.client.Device("wt7"); err != nil || len(state.Peers) != 0 {
		p.t.Errorf("state %+v, %v", state, err)
	}
	for range 2 {
		if err := p.host.Close(); err != nil {
			p.t.Error(err)
		}
	}
	if _, err := netlink.LinkByName("wt7"); err == nil {
		p.t.Error("the interface outlives the device")
	}
}

func TestKernelTakesNoFilter(t *testing.T) {
	_, err := New(Config{Logger: slog.New(slog.DiscardHandler), PrivateKey: GenerateKey(), Mode: ModeKernel, Filter: everything{}})
	if err == nil || !strings.Contains(err.Error(), "nftables") {
		t.Errorf("error %v", err)
	}
}

type everything struct{}

func (everything) Inbound([]byte) bool  { return true }
func (everything) Outbound([]byte) bool { return true }

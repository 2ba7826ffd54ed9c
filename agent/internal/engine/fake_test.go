package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	wire "github.com/miekg/dns"

	"github.com/wattlenet/wattle/agent/internal/connectivity"
	"github.com/wattlenet/wattle/agent/internal/dns"
	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/firewall"
	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/route"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/table"
)

// A Fake is a machine in memory: its parts keep what they were set to and note
// the order of the calls. Its zero value works.
type Fake struct {
	mu       sync.Mutex // guards all below
	calls    []string
	fail     map[string]error
	tunnel   tunnel.Settings
	firewall firewall.Config
	names    dns.Config
	system   system.Fake
	routes   route.Fake
	peers    table.Table[string, connectivity.Peer]
	relays   []connectivity.Relay
	known    []connectivity.Known
	boxes    []string
	closed   bool
	opened   MachineConfig       // the last
	key      tunnel.PublicKey    // of the device
	keys     [2]tunnel.PublicKey // of the paths: in use and the other one
	active   []connectivity.Active
	mode     postquantum.Mode
	kept     bool
	removed  chan struct{} // closed: the interface is gone
}

// RemoveInterface does what somebody does who deletes the tunnel's interface.
func (f *Fake) RemoveInterface() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.removed)
}

// Opened returns what the last opening was given.
func (f *Fake) Opened() MachineConfig {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opened
}

// Open opens the fake in the place of a host.
func (f *Fake) Open(c MachineConfig) (*Machine, error) {
	f.mu.Lock()
	f.known, f.opened, f.removed = c.Known, c, make(chan struct{})
	if !c.Key.IsZero() {
		f.key = c.Key.Public()
	}
	f.mu.Unlock()
	if err := f.note("open"); err != nil {
		return nil, err
	}
	return &Machine{
		Device: fakeDevice{f}, Paths: fakePaths{f}, Firewall: fakeFirewall{f}, Resolver: fakeResolver{f}, Network: fakeNetwork{f}, Names: &f.system,
		Routes: f.routes.Reopen(),
		Mode:   tunnel.ModeUserspace, Interface: "wt0", Port: func() uint16 { return 51820 }, Drops: func() tunnel.Drops { return tunnel.Drops{Noise: 7} },
		Watch: func(ctx context.Context, _, _ func()) error { <-ctx.Done(); return nil },
	}, nil
}

// FailNext makes the next call of that name fail.
func (f *Fake) FailNext(call string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		f.fail = map[string]error{}
	}
	f.fail[call] = err
}

// Calls returns the calls since the last time it was asked.
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// note records a call. The caller does not hold mu.
func (f *Fake) note(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
	err := f.fail[call]
	delete(f.fail, call)
	return err
}

type fakeDevice struct{ f *Fake }

func (d fakeDevice) Set(_ context.Context, s tunnel.Settings) error {
	err := d.f.note("tunnel")
	if err == nil {
		d.f.mu.Lock()
		d.f.tunnel = s
		d.f.mu.Unlock()
	}
	return err
}

func (d fakeDevice) LookAgain() {}

func (d fakeDevice) Ended() <-chan struct{} {
	d.f.mu.Lock()
	defer d.f.mu.Unlock()
	return d.f.removed
}

func (d fakeDevice) SetKey(key tunnel.PrivateKey) error {
	err := d.f.note("key")
	if err == nil {
		d.f.mu.Lock()
		d.f.key = key.Public()
		d.f.mu.Unlock()
	}
	return err
}

func (d fakeDevice) Stats() (map[tunnel.PublicKey]tunnel.Stats, error) {
	return map[tunnel.PublicKey]tunnel.Stats{}, nil
}

// Ping answers for peers that the device has.
func (d fakeDevice) Ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	d.f.mu.Lock()
	known := slices.ContainsFunc(slices.Collect(d.f.tunnel.Peers.Values()), func(p tunnel.Peer) bool {
		return slices.ContainsFunc(p.AllowedIPs, func(allowed netip.Prefix) bool { return allowed.Contains(to) })
	})
	d.f.mu.Unlock()
	if known {
		return time.Millisecond, nil
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

func (d fakeDevice) Close() error {
	d.f.mu.Lock()
	d.f.closed = true
	d.f.mu.Unlock()
	return d.f.note("tunnel closed")
}

type fakePaths struct{ f *Fake }

func (p fakePaths) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (p fakePaths) SetPeers(peers table.Table[string, connectivity.Peer]) {
	_ = p.f.note("paths")
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.peers = peers
}

func (p fakePaths) SetRelays(relays []connectivity.Relay) error {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.relays = relays
	return nil
}

func (p fakePaths) HandleSignal(from string, box []byte) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.boxes = append(p.f.boxes, from+" "+string(box))
}

func (p fakePaths) Status(peerID string) (connectivity.Status, bool) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	return connectivity.Status{Path: connectivity.PathDirect}, p.f.peers.Has(peerID)
}

func (p fakePaths) SetPostQuantum(mode postquantum.Mode) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.mode = mode
}

func (p fakePaths) Keep(every bool) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.kept = every
}

func (p fakePaths) NetworkChanged() {}
func (p fakePaths) Woke()           {}

func (p fakePaths) Wake(string) {}

func (p fakePaths) SetKeys(key, other tunnel.PrivateKey) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.keys = [2]tunnel.PublicKey{key.Public(), {}}
	if !other.IsZero() {
		p.f.keys[1] = other.Public()
	}
}

func (p fakePaths) Active(context.Context) ([]connectivity.Active, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	return slices.Clone(p.f.active), nil
}

func (p fakePaths) Known() []connectivity.Known {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	return slices.Clone(p.f.known)
}

func (p fakePaths) RelayStatus() connectivity.RelayStatus { return connectivity.RelayStatus{} }

func (p fakePaths) NetworkStatus() connectivity.NetworkStatus { return connectivity.NetworkStatus{} }

type fakeFirewall struct{ f *Fake }

func (w fakeFirewall) Set(_ context.Context, c firewall.Config) error {
	err := w.f.note("firewall")
	if err == nil {
		w.f.mu.Lock()
		w.f.firewall = c
		w.f.mu.Unlock()
	}
	return err
}

func (w fakeFirewall) Learn(string, []netip.Addr, time.Duration) error { return w.f.note("learn") }

func (w fakeFirewall) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

func (w fakeFirewall) Status() firewall.Status { return firewall.Status{Kind: "fake"} }
func (w fakeFirewall) Close() error            { return w.f.note("firewall closed") }

type fakeResolver struct{ f *Fake }

func (r fakeResolver) Set(_ context.Context, c dns.Config) error {
	r.f.mu.Lock()
	r.f.names = c
	r.f.mu.Unlock()
	return r.f.note("names")
}

func (r fakeResolver) Serving() (at []netip.AddrPort, note string) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	for _, addr := range r.f.names.Addresses {
		at = append(at, netip.AddrPortFrom(addr, dns.Port))
	}
	return at, ""
}

func (r fakeResolver) Lookup(name string) (dns.Host, bool) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	label := strings.TrimSuffix(strings.ToLower(strings.TrimSuffix(name, ".")), "."+r.f.names.Domain)
	return r.f.names.Hosts.Get(label)
}

func (r fakeResolver) NetworkChanged() {}

func (r fakeResolver) DialOutside(context.Context) (net.Conn, error) {
	return nil, errors.New("the fake asks nobody")
}

func (r fakeResolver) Answer(_ context.Context, question *wire.Msg) *wire.Msg {
	return new(wire.Msg).SetReply(question)
}

func (r fakeResolver) Close() error { return r.f.note("names closed") }

// fakeNetwork is the loopback: what is dialled is noted and answers an echo.
type fakeNetwork struct{ f *Fake }

func (n fakeNetwork) Dial(_ context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	if err := n.f.note("dial " + network + " " + to.String()); err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	go func() {
		_, _ = io.Copy(far, far)
		_ = far.Close()
	}()
	return near, nil
}

func (n fakeNetwork) Listen(_ context.Context, at netip.AddrPort) (net.Listener, error) {
	if err := n.f.note("listen " + at.String()); err != nil {
		return nil, err
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

func (n fakeNetwork) ListenPacket(_ context.Context, at netip.AddrPort) (net.PacketConn, error) {
	if err := n.f.note("listen udp " + at.String()); err != nil {
		return nil, err
	}
	return net.ListenPacket("udp", "127.0.0.1:0")
}

// errInjected is a failure that a test asked for.
var errInjected = errors.New("injected")

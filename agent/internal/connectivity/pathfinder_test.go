package connectivity

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v3"

	"github.com/wattlenet/wattle/agent/internal/postquantum"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/table"
)

const patience = 20 * time.Second // until a test gives up; never waited for in vain

// A wire carries signals between machines, in order, until it is cut.
type wire struct {
	mu       sync.Mutex
	machines map[string]*machine
	cut      bool
	sent     int
	bytes    int

	// meddle, if any, sees each box before it is delivered and returns what is
	// delivered in its place.
	meddle func(from, to string, box []byte) [][]byte
}

func (w *wire) deliver(from, to string, box []byte) error {
	w.mu.Lock()
	w.sent++
	w.bytes += len(box)
	m, cut, meddle := w.machines[to], w.cut, w.meddle
	w.mu.Unlock()
	if cut || m == nil {
		return fmt.Errorf("peer %s is not connected", to)
	}
	boxes := [][]byte{box}
	if meddle != nil {
		boxes = meddle(from, to, box)
	}
	for _, b := range boxes {
		m.paths.HandleSignal(from, b)
	}
	return nil
}

func (w *wire) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

// A machine is a device in netstack mode with its pathfinder.
type machine struct {
	id     string
	key    tunnel.PrivateKey
	next   tunnel.PrivateKey // zero: none
	addr   netip.Addr
	mode   postquantum.Mode
	device *tunnel.Device
	paths  *Pathfinder
	stop   func()
}

type machineOptions struct {
	force Path
	relay []Relay
	port  uint16 // 0: the system chooses
	known []Known
	idle  time.Duration    // 0: the default
	mode  postquantum.Mode // "": off
	mtu   int              // 0: the default
}

func testLogger(id string) *slog.Logger {
	if os.Getenv("WATTLE_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("machine", id)
}

func newMachine(t testing.TB, w *wire, id, addr string, opts machineOptions) *machine {
	t.Helper()
	return newMachineWithKey(t, w, id, addr, tunnel.GenerateKey(), opts)
}

func newMachineWithKey(t testing.TB, w *wire, id, addr string, key tunnel.PrivateKey, opts machineOptions) *machine {
	t.Helper()
	log := testLogger(id)
	m := &machine{id: id, key: key, addr: netip.MustParseAddr(addr), mode: cmp.Or(opts.mode, postquantum.Off)}
	var err error
	if m.device, err = tunnel.New(tunnel.Config{Logger: log, PrivateKey: m.key, Mode: tunnel.ModeNetstack, ListenPort: opts.port, MTU: opts.mtu}); err != nil {
		t.Fatal(err)
	}
	m.paths, err = New(Config{
		Logger: log, PrivateKey: m.key, Bind: m.device.Bind(), Force: opts.force,
		Interface: func(name string) bool { return name == "lo" },
		Loopback:  true, Rekey: m.device.Rekey, Handshake: m.device.Handshake, PresharedKey: m.device.SetPresharedKey, Known: opts.known, IdleAfter: opts.idle, MTU: opts.mtu,
		Signal: func(_ context.Context, peer string, box []byte) error { return w.deliver(id, peer, box) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.paths.SetRelays(opts.relay); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.paths.Run(ctx) }()
	var once sync.Once
	m.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run of %s: %v", id, err)
			}
			if err := m.device.Close(); err != nil {
				t.Errorf("close of %s: %v", id, err)
			}
		})
	}
	t.Cleanup(m.stop)
	w.mu.Lock()
	w.machines[id] = m
	w.mu.Unlock()
	return m
}

func newWire() *wire { return &wire{machines: make(map[string]*machine)} }

// introduce puts every machine into every other's map.
func introduce(t testing.TB, machines ...*machine) {
	t.Helper()
	for _, m := range machines {
		var peers table.Table[string, Peer]
		var settings tunnel.Settings
		settings.Addresses = []netip.Prefix{netip.PrefixFrom(m.addr, 16)}
		settings.RequirePresharedKey = m.mode == postquantum.Strict
		for _, other := range machines {
			if other == m {
				continue
			}
			var next tunnel.PublicKey
			if !other.next.IsZero() {
				next = other.next.Public()
			}
			peers = peers.With(other.id, Peer{ID: other.id, PublicKey: other.key.Public(), NextKey: next})
			settings.Peers = settings.Peers.With(other.key.Public(), tunnel.Peer{
				PublicKey: other.key.Public(), NextKey: next,
				AllowedIPs: []netip.Prefix{netip.PrefixFrom(other.addr, other.addr.BitLen())},
			})
		}
		if err := m.device.Set(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		m.paths.SetPostQuantum(m.mode)
		m.paths.SetPeers(peers)
	}
}

func (m *machine) ping(t testing.TB, to *machine) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	start := time.Now()
	if _, err := m.device.Ping(ctx, to.addr); err != nil {
		s, _ := m.paths.Status(to.id)
		t.Fatalf("%v; status %+v, relay %+v, drops %+v", err, s, m.paths.RelayStatus(), m.device.Bind().Drops())
	}
	return time.Since(start)
}

// oneTry is how long the answer to one ping is waited for where some are lost: as
// long as a busy machine needs for it.
const oneTry = 500 * time.Millisecond

// reaches pings until an answer comes, and returns how long that took: what is
// sent while a path is replaced may be lost.
func (m *machine) reaches(t testing.TB, to *machine) time.Duration {
	t.Helper()
	start := time.Now()
	eventually(t, m.id+" reaches "+to.id, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), oneTry)
		defer cancel()
		_, err := m.device.Ping(ctx, to.addr)
		return err == nil
	})
	return time.Since(start)
}

// ownTimers is less than it takes WireGuard to begin anew with a peer that says
// nothing (KeepaliveTimeout and RekeyTimeout of the white paper, section 6.1: 15 s).
const ownTimers = 12 * time.Second

// unaided says that no handshake had to wait for WireGuard's own repetition after
// 5 s: however slow this machine is, one that can succeed does so before.
func unaided(t testing.TB, machines ...*machine) {
	t.Helper()
	for _, m := range machines {
		if n := m.device.Bind().Retries(); n > 0 {
			t.Errorf("%d handshakes of %s led to nothing, and WireGuard's own repetition had to help", n, m.id)
		}
	}
}

// eventually asks until ok says yes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("never came true: %s", what)
		}
	}
}

func (m *machine) onPath(t testing.TB, to *machine, want Path) {
	t.Helper()
	var last Status
	defer func() {
		if t.Failed() {
			t.Logf("last status of %s towards %s: %+v", m.id, to.id, last)
		}
	}()
	eventually(t, fmt.Sprintf("%s reaches %s %s", m.id, to.id, want), func() bool {
		last, _ = m.paths.Status(to.id)
		return last.Path == want
	})
}

// A testRelay is pion's TURN server: a second implementation of the protocol.
type testRelay struct {
	urls   []string
	server *turn.Server
}

func startRelay(t *testing.T) *testRelay {
	t.Helper()
	return startStrictRelay(t, nil)
}

// startStrictRelay lets a client reach only the peers that allows says; nil: all.
func startStrictRelay(t *testing.T, allows turn.PermissionHandler) *testRelay {
	t.Helper()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	generator := func() turn.RelayAddressGenerator {
		return &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	}
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "wattle",
		AuthHandler: func(username, realm string, _ net.Addr) ([]byte, bool) {
			return turn.GenerateAuthKey(username, realm, "secret"), true
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: udp, RelayAddressGenerator: generator(), PermissionHandler: allows}},
		ListenerConfigs:   []turn.ListenerConfig{{Listener: tcp, RelayAddressGenerator: generator(), PermissionHandler: allows}},
		LoggerFactory:     &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &testRelay{server: server, urls: []string{
		"turn:" + udp.LocalAddr().String() + "?transport=udp",
		"turn:" + tcp.Addr().String() + "?transport=tcp",
	}}
	t.Cleanup(func() { _ = server.Close() })
	return r
}

func (r *testRelay) udp() []Relay {
	return []Relay{{URLs: r.urls[:1], Username: "1:a.b", Password: "secret"}}
}

func (r *testRelay) tcp() []Relay {
	return []Relay{{URLs: r.urls[1:], Username: "1:a.b", Password: "secret"}}
}

func TestDirectWithoutRelay(t *testing.T) {
	w := newWire()
	a := newMachine(t, w, "a", "10.77.0.1", machineOptions{})
	b := newMachine(t, w, "b", "10.77.0.2", machineOptions{})
	introduce(t, a, b)
	t.Logf("first ping: %v", a.ping(t, b))
	a.onPath(t, b, PathDirect)
	b.onPath(t, a, PathDirect)
	t.Logf("second ping: %v", b.ping(t, a))
}

func TestRelayed(t *testing.T) {
	r := startRelay(t)
	for name, relay := range map[string][]Relay{"udp": r.udp(), "tcp": r.tcp()} {
		t.Run(name, func(t *testing.T) {
			w := newWire()
			a := newMachine(t, w, "a", "10.77.0.1", machineOptions{force: PathRelayed, relay: relay})
			b := newMachine(t, w, "b", "10.77.0.2", machineOptions{force: PathRelayed, relay: relay})
			introduce(t, a, b)
			t.Logf("first ping: %v", a.ping(t, b))
			a.onPath(t, b, PathRelayed)
			b.onPath(t, a, PathRelayed)
			if s, _ := a.paths.Status("b"); s.Reason != ReasonRelayForced {
				t.Errorf("reason %q, want %q", s.Reason, ReasonRelayForced)
			}
			t.Logf("second ping: %v", b.ping(t, a))
		})
	}
}

package tunnel

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/internal/table"
)

// newTestDevice makes a device in netstack mode whose peers are those given.
func newTestDevice(t *testing.T, key PrivateKey, addr string, filter Filter, peers ...Peer) *Device {
	t.Helper()
	return newTestDeviceOn(t, nil, key, addr, filter, peers...)
}

func newTestDeviceOn(t *testing.T, bind *Bind, key PrivateKey, addr string, filter Filter, peers ...Peer) *Device {
	t.Helper()
	d, err := New(Config{Logger: slog.New(slog.DiscardHandler), PrivateKey: key, Bind: bind, Mode: ModeNetstack, Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	err = d.Set(t.Context(), Settings{Addresses: []netip.Prefix{netip.MustParsePrefix(addr + "/24")}, Peers: tableOf(peers...)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func tableOf(peers ...Peer) table.Table[PublicKey, Peer] {
	var edit table.Edit[PublicKey, Peer]
	for _, p := range peers {
		edit.Set(p.PublicKey, p)
	}
	return edit.Table()
}

func peerAt(key PrivateKey, addr string) Peer {
	return Peer{PublicKey: key.Public(), AllowedIPs: []netip.Prefix{netip.MustParsePrefix(addr + "/32")}}
}

func loopback(d *Device) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), d.Bind().Port())
}

func next(t *testing.T, b *Bind) Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	e, err := b.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *Endpoint) keptInitiation() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.initiation)
}

func TestIdleEndpointKeepsTheInitiationAndWakes(t *testing.T) {
	a, b := GenerateKey(), GenerateKey()
	da := newTestDevice(t, a, "10.9.0.1", nil, peerAt(b, "10.9.0.2"))
	db := newTestDevice(t, b, "10.9.0.2", nil, peerAt(a, "10.9.0.1"))
	answer := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := da.Ping(ctx, netip.MustParseAddr("10.9.0.2"))
		answer <- err
	}()
	if got := next(t, da.Bind()); got.Kind != Wake || got.Peer != b.Public() {
		t.Fatalf("event %+v, want a wake of the peer", got)
	}
	e := da.Bind().Endpoint(b.Public())
	message := e.keptInitiation()

	// Whoever holds the other private key, and nobody else, learns who begins.
	if got, err := newInitiationReader(b).sender(message); err != nil || got != a.Public() {
		t.Errorf("sender %v, %v; want %v", got, err, a.Public())
	}
	if _, err := newInitiationReader(GenerateKey()).sender(message); err == nil {
		t.Error("a stranger reads the sender")
	}
	for _, at := range []int{0, ephemeralAt, staticAt, timestampAt, mac1At} {
		changed := slices.Clone(message)
		changed[at] ^= 1
		if _, err := newInitiationReader(b).sender(changed); err == nil {
			t.Errorf("byte %d changed and nobody noticed", at)
		}
	}

	// The peer knows no path either: the answer goes where the message came from.
	e.Use(da.Bind().DirectPath(loopback(db)), nil)
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	if got := next(t, db.Bind()); got.Kind != Arrived || got.Peer != a.Public() || got.Addr != loopback(da) {
		t.Errorf("event %+v, want the arrival of the peer", got)
	}
	stats, err := da.Stats()
	if err != nil || stats[b.Public()].LastHandshake.IsZero() || stats[b.Public()].ReceivedBytes == 0 {
		t.Errorf("stats %+v, %v", stats, err)
	}
	if e.Handshaking() {
		t.Error("the initiation is kept after its answer")
	}
}

func TestRepeatedInitiationIsAnsweredAgain(t *testing.T) {
	e := testBind(t).Endpoint(GenerateKey().Public())
	message := make([]byte, initiationSize)
	message[0], message[4] = messageInitiation, 9
	if _, pass := e.judge(message, 1); !pass {
		t.Fatal("the first copy did not pass")
	}
	if answer, pass := e.judge(message, 2); pass || answer != nil {
		t.Error("a copy passed while the device was at the first")
	}
	response := make([]byte, responseSize)
	response[0], response[4], response[8] = messageResponse, 3, 9
	e.noteHandshake(response)
	if answer, pass := e.judge(message, 3); pass || !bytes.Equal(answer, response) {
		t.Error("the lost response was not sent again")
	}
}

func TestCopiesOfOneResponseReachTheDeviceOnce(t *testing.T) {
	b := testBind(t)
	e := b.Endpoint(GenerateKey().Public())
	response := make([]byte, responseSize)
	response[0] = messageResponse
	if !e.received(response, originOf(peerAddr), 1) {
		t.Fatal("the first copy did not pass")
	}
	if e.received(response, originOf(relayAddr), 2) {
		t.Error("the second copy passed: the device would start its counter twice")
	}
}

func TestCrossingInitiations(t *testing.T) {
	own := GenerateKey()
	b, err := NewBind(BindConfig{Logger: slog.New(slog.DiscardHandler), PrivateKey: own})
	if err != nil {
		t.Fatal(err)
	}
	var smaller, greater PublicKey
	for i := range greater {
		greater[i] = 0xff
	}
	initiation := func(index byte) []byte {
		m := make([]byte, initiationSize)
		m[0], m[4] = messageInitiation, index
		return m
	}
	lead := b.Endpoint(greater)
	lead.noteHandshake(initiation(1))
	if answer, pass := lead.judge(initiation(2), b.now()); pass || !bytes.Equal(answer, initiation(1)) {
		t.Error("the side that leads gave way")
	}
	follow := b.Endpoint(smaller)
	follow.noteHandshake(initiation(1))
	now := b.now()
	if _, pass := follow.judge(initiation(2), now); pass {
		t.Error("the other side gave way before the leader insisted")
	}
	if _, pass := follow.judge(initiation(2), now+int64(secondThought)+1); !pass {
		t.Error("the leader insisted in vain")
	}
	for _, e := range []*Endpoint{lead, follow} {
		e.forget()
	}
}

// While a new path is proven the relay carries copies. The last of them must not
// make a peer seem relayed that has nothing else to say.
func TestCopiesOfDirectPacketsAreNotRelayedOnes(t *testing.T) {
	e := testBind(t).Endpoint(GenerateKey().Public())
	through, straight := originOf(relayAddr), originOf(peerAddr)
	through.relay = &Relay{}
	at := int64(1)
	for _, step := range []struct {
		from  *origin
		after time.Duration
		want  bool
	}{
		{through, 0, true},
		{straight, time.Millisecond, false},
		{through, 5 * time.Millisecond, false},
		{through, copyTime, true},
		{straight, time.Millisecond, false},
	} {
		at += int64(step.after)
		e.noteArrival(step.from, at)
		if got := e.ComesRelayed(); got != step.want {
			t.Errorf("%s after a packet by relay %t: relayed %t, want %t", step.after, step.from == through, got, step.want)
		}
	}
}

func TestPathsChangeUnderARunningSession(t *testing.T) {
	a, b := GenerateKey(), GenerateKey()
	da := newTestDevice(t, a, "10.9.0.1", nil, peerAt(b, "10.9.0.2"))
	db := newTestDevice(t, b, "10.9.0.2", nil, peerAt(a, "10.9.0.1"))
	e := da.Bind().Endpoint(b.Public())
	to := netip.MustParseAddr("10.9.0.2")
	ping := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := da.Ping(ctx, to); err != nil {
			t.Fatal(err)
		}
	}
	e.Use(da.Bind().DirectPath(loopback(db)), nil)
	ping()
	six := netip.AddrPortFrom(netip.MustParseAddr("::1"), db.Bind().Port())
	e.Use(da.Bind().DirectPath(six), da.Bind().DirectPath(loopback(db))) // and copies on the old one
	ping()
	if e.Primary().Addr() != six {
		t.Errorf("primary %s: roaming inside the device has moved the peer", e.Primary().Addr())
	}
	da.Bind().NetworkChanged()
	ping()
	da.Rekey(b.Public())
	ping()
}

type denying struct{ inbound, outbound bool }

func (d denying) Inbound([]byte) bool  { return !d.inbound }
func (d denying) Outbound([]byte) bool { return !d.outbound }

func TestFilterStandsBetween(t *testing.T) {
	for _, f := range []denying{{inbound: true}, {outbound: true}} {
		t.Run(fmt.Sprintf("%+v", f), func(t *testing.T) {
			a, b := GenerateKey(), GenerateKey()
			da := newTestDevice(t, a, "10.9.0.1", nil, peerAt(b, "10.9.0.2"))
			db := newTestDevice(t, b, "10.9.0.2", f, peerAt(a, "10.9.0.1"))
			da.Bind().Endpoint(b.Public()).Use(da.Bind().DirectPath(loopback(db)), nil)
			for deadline := time.Now().Add(10 * time.Second); ; {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				_, err := da.Ping(ctx, netip.MustParseAddr("10.9.0.2"))
				cancel()
				if err == nil {
					t.Fatal("a ping passed the filter")
				}
				stats, err := db.Stats()
				if err == nil && !stats[a.Public()].LastHandshake.IsZero() {
					return // and the ping with which it ended was stopped
				}
				if time.Now().After(deadline) {
					t.Fatalf("the filter stopped the handshake too: %+v, %v", stats, err)
				}
			}
		})
	}
}

func TestFilteredWriteDropsOnlyWhatIsRefused(t *testing.T) {
	inner := &recorder{}
	f := Filtered(inner, refuse("b"))
	packets := [][]byte{[]byte("-a"), []byte("-b"), []byte("-c"), []byte("-b"), []byte("-d")}
	n, err := f.Write(packets, 1)
	if err != nil || n != len(packets) {
		t.Fatalf("%d, %v", n, err)
	}
	if got := strings.Join(inner.written, ""); got != "acd" {
		t.Errorf("written %q, want acd", got)
	}
}

type refuse string

func (r refuse) Inbound(p []byte) bool  { return string(p) != string(r) }
func (r refuse) Outbound(p []byte) bool { return string(p) != string(r) }

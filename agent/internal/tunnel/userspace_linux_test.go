package tunnel

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/wattlenet/wattle/internal/namespacetest"
)

// TestUserspace runs in a network namespace of its own, without root outside.
func TestUserspace(t *testing.T) {
	namespacetest.Run(t, namespacetest.Network, throughTUN)
}

func throughTUN(t *testing.T) {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("SKIPPED: no TUN here: %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	a, b := GenerateKey(), GenerateKey()
	host, err := New(Config{Logger: slog.New(slog.DiscardHandler), PrivateKey: a, Mode: ModeAuto, Interface: "wt7"})
	if err != nil {
		t.Fatal(err)
	}
	if host.Mode() != ModeUserspace || host.Interface() != "wt7" || host.Reason() != "" {
		t.Fatalf("mode %s, interface %s, %s", host.Mode(), host.Interface(), host.Reason())
	}
	conformsAddressing(t, host.host)
	settings := Settings{
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd09::1/64")},
		Peers: tableOf(Peer{PublicKey: b.Public(), AllowedIPs: []netip.Prefix{
			netip.MustParsePrefix("10.9.0.2/32"), netip.MustParsePrefix("fd09::2/128"),
		}}),
	}
	for range 2 {
		if err := host.Set(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
	}
	other := newTestDevice(t, b, "10.9.0.2", nil, Peer{PublicKey: a.Public(), AllowedIPs: settings.Addresses})
	if err := other.Set(t.Context(), Settings{
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24"), netip.MustParsePrefix("fd09::2/64")},
		Peers: tableOf(Peer{PublicKey: a.Public(), AllowedIPs: []netip.Prefix{
			netip.MustParsePrefix("10.9.0.1/32"), netip.MustParsePrefix("fd09::1/128"),
		}}),
	}); err != nil {
		t.Fatal(err)
	}
	host.Bind().Endpoint(b.Public()).Use(host.Bind().DirectPath(loopback(other)), nil)
	for _, to := range []string{"10.9.0.2", "fd09::2"} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := host.Ping(ctx, netip.MustParseAddr(to)); err != nil {
			t.Error(err)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := other.Ping(ctx, netip.MustParseAddr("10.9.0.1")); err != nil {
		t.Error(err)
	}
	settings.Addresses = []netip.Prefix{netip.MustParsePrefix("10.9.0.5/24")}
	if err := host.Set(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("wt7")
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(addrs) != 1 || addrs[0].IP.String() != "10.9.0.5" {
		t.Errorf("addresses %v, %v", addrs, err)
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	if _, err := netlink.LinkByName("wt7"); err == nil {
		t.Error("the interface outlives the device")
	}
}

// TestNarrowPathTellsTheHost sends a stream of the host's own TCP over a path that
// carries less than the interface.
func TestNarrowPathTellsTheHost(t *testing.T) {
	namespacetest.Run(t, namespacetest.Network, hostOnNarrowPath)
}

func hostOnNarrowPath(t *testing.T) {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	const mtu = 896
	a, b := GenerateKey(), GenerateKey()
	bind, err := NewBind(BindConfig{Logger: slog.New(slog.DiscardHandler), PrivateKey: a})
	if err != nil {
		t.Fatal(err)
	}
	longest := &longestSend{Bind: bind.std}
	bind.std = longest
	host, err := New(Config{Logger: slog.New(slog.DiscardHandler), PrivateKey: a, Bind: bind, Mode: ModeUserspace, Interface: "wt7"})
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("SKIPPED: no TUN here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := host.Set(t.Context(), Settings{Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}, Peers: tableOf(peerAt(b, "10.9.0.2"))}); err != nil {
		t.Fatal(err)
	}
	other := newTestDevice(t, b, "10.9.0.2", nil, peerAt(a, "10.9.0.1"))
	path := bind.DirectPath(loopback(other))
	path.SetMTU(mtu)
	bind.Endpoint(b.Public()).Use(path, nil)
	carry(t, func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
	}, other)
	if longest.bytes.Load() > mtu+Overhead {
		t.Errorf("a message of %d bytes left on a path that carries %d", longest.bytes.Load(), mtu+Overhead)
	}
}

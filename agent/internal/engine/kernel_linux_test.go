package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/wattlenet/wattle/agent/internal/forward"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/namespacetest"
)

// TestKernelMachine runs the whole agent on WireGuard of the kernel, in a
// network namespace of its own. Where the kernel has none, `make test-kernel`
// runs it in an emulated machine.
func TestKernelMachine(t *testing.T) {
	namespacetest.Run(t, namespacetest.Network, throughKernel)
}

// street gives the namespace an address that a candidate can have.
func street(t *testing.T) {
	t.Helper()
	wg := &netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "probe"}}
	if err := netlink.LinkAdd(wg); errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skip("SKIPPED: this kernel has no WireGuard; make test-kernel emulates a machine that has")
	} else if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(wg); err != nil {
		t.Fatal(err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lo", "near", "far"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "near" {
			err = netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 1).To4(), Mask: net.CIDRMask(24, 32)}})
		}
		if err := errors.Join(err, netlink.LinkSetUp(link)); err != nil {
			t.Fatal(err)
		}
	}
}

// enrol boots an agent on the real host, which logs to log, and joins it.
func enrol(t *testing.T, plane *controlplanetest.Server, log io.Writer, name, kind string) *Engine {
	t.Helper()
	store, err := identity.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	book, err := settings.Open("", settings.Given{"hostname": name, "tunnel": kind, "dns": "off"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(Config{Logger: slog.New(slog.NewTextHandler(log, nil)), Store: store, Version: "test", Settings: book})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			t.Error(err)
		}
	})
	limited, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := e.Up(limited, local.UpRequest{ManagementURL: plane.URL, SetupKey: plane.SetupKey}); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return e
}

// first is the IPv4 address of an agent on the overlay.
func first(e *Engine) netip.Addr {
	return netip.MustParseAddr(e.Status(context.Background()).Addresses[0])
}

func throughKernel(t *testing.T) {
	street(t)
	plane := controlplanetest.New(t)
	kernel, other := enrol(t, plane, t.Output(), "kernel", "kernel"), enrol(t, plane, t.Output(), "other", "netstack")
	status := kernel.Status(t.Context())
	if status.Tunnel.Mode != "kernel" || status.Firewall.Kind != "nftables" {
		t.Fatalf("tunnel %+v, firewall %+v", status.Tunnel, status.Firewall)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := kernel.Wait(ctx, local.WaitRequest{For: "ready"}); err != nil {
		t.Fatal(err)
	}

	// From the host's own sockets into the network, and back.
	inside, err := other.Listen(ctx, netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
	if err != nil {
		t.Fatal(err)
	}
	var config net.ListenConfig
	outside, err := config.Listen(ctx, "tcp", netip.AddrPortFrom(first(kernel), 80).String())
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for _, listener := range []net.Listener{inside, outside} {
		running.Go(func() { greet(listener) })
	}
	defer running.Wait()
	defer func() { _, _ = inside.Close(), outside.Close() }()
	var dialer net.Dialer
	hear(t, func() (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(first(other), 80).String())
	})
	hear(t, func() (net.Conn, error) { return other.Dial(ctx, "tcp", "kernel:80") })
	peers := kernel.Status(ctx).Peers
	if len(peers) != 1 || peers[0].Path != "direct" || peers[0].ReceivedBytes == 0 {
		t.Errorf("peers %+v", peers)
	}

	// The rules hold for packets that never pass the agent.
	for policy, err := range plane.Client.Policies(ctx, sdk.ListPoliciesOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if err := plane.Client.DeletePolicy(ctx, policy.Id); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range []*Engine{kernel, other} {
		for change := e.Watch(); len(e.Status(ctx).Peers) != 0; change = e.Watch() {
			if err := waitChange(ctx, change, false); err != nil {
				t.Fatalf("the machines still see each other: %v", err)
			}
		}
	}
	short, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if connection, err := dialer.DialContext(short, "tcp", netip.AddrPortFrom(first(other), 80).String()); err == nil {
		_ = connection.Close()
		t.Error("a connection that no rule permits")
	}
	if _, err := other.Dial(short, "tcp", netip.AddrPortFrom(first(kernel), 80).String()); !errors.Is(err, forward.ErrElsewhere) {
		t.Errorf("error %v", err)
	}
	if err := kernel.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName("wt0"); err == nil {
		t.Error("the interface is left")
	}
}

// greet says one word to everybody.
func greet(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(connection, "hello")
		_ = connection.Close()
	}
}

func hear(t *testing.T, dial func() (net.Conn, error)) {
	t.Helper()
	connection, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if text, err := io.ReadAll(connection); err != nil || string(text) != "hello" {
		t.Errorf("%q, %v", text, err)
	}
}

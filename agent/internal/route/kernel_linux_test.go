package route

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/agent/internal/mark"
	"github.com/wattlenet/wattle/internal/namespacetest"
)

// TestKernel runs in namespaces of its own, where it may hold routes without root.
func TestKernel(t *testing.T) {
	namespacetest.Run(t, namespacetest.Network|namespacetest.Mounts, testKernel)
}

func testKernel(t *testing.T) {
	runtime.LockOSThread() // settings below /proc are those of the thread
	eth, wt := interfaceWith(t, "eth0", "192.168.7.2/24", "fd00:7::2/64"), interfaceWith(t, "wt0", "100.88.0.1/16", "fd00:88::1/64")
	for _, gateway := range []string{"192.168.7.1", "fd00:7::1"} {
		if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway), LinkIndex: eth}); err != nil {
			t.Fatal(err)
		}
	}
	way := func(to netip.Addr, marked bool) Way { return wayOf(t, to, marked, wt) }
	t.Run("conforms", func(t *testing.T) {
		journal := filepath.Join(t.TempDir(), "settings")
		conforms(t, func() Host { return open(t, journal) }, way)
	})
	t.Run("a killed agent leaves nothing for the next", func(t *testing.T) { killed(t, way) })
	t.Run("nor for the cleanup", func(t *testing.T) { interfaceGone(t, way) })
	t.Run("nor for one that starts again", func(t *testing.T) { nothingRefused(t, way) })
	t.Run("a second agent takes another table", func(t *testing.T) { besideAnother(t, way) })
	t.Run("an agent stays closed under another name", func(t *testing.T) { renamed(t, way) })
	t.Run("a full disk changes nothing", func(t *testing.T) { fullDisk(t, way) })
	t.Run("routes that others removed come back", func(t *testing.T) { repaired(t, way) })
	t.Run("forwarding is switched on and back", carried)
	t.Run("what somebody else has set since stays", overtaken)
	t.Run("what cannot be carried is told", func(t *testing.T) { unreachable(t, eth) })
}

func open(t *testing.T, journal string) *Kernel {
	t.Helper()
	k, err := NewKernel(Options{Logger: slog.New(slog.DiscardHandler), Interface: "wt0", Journal: journal})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// interfaceWith makes an interface with addresses and returns its index.
func interfaceWith(t *testing.T, name string, addresses ...string) int {
	t.Helper()
	// The far end of the pair keeps the near one up.
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "far-" + name}
	if err := netlink.LinkAdd(link); err != nil {
		t.Skipf("SKIPPED: no pairs of interfaces here: %v", err)
	}
	far, err := netlink.LinkByName(link.PeerName)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(far); err != nil {
		t.Fatal(err)
	}
	for _, text := range addresses {
		addr, err := netlink.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	return link.Index
}

func wayOf(t *testing.T, to netip.Addr, marked bool, tunnel int) Way {
	t.Helper()
	options := &netlink.RouteGetOptions{}
	if marked {
		options.Mark = mark.Value
	}
	routes, err := netlink.RouteGetWithOptions(to.AsSlice(), options)
	switch {
	case errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH):
		return WayRefused
	case err != nil:
		t.Fatalf("way to %s: %v", to, err)
	case routes[0].LinkIndex == tunnel:
		return WayTunnel
	}
	return WayHost
}

func killed(t *testing.T, way func(netip.Addr, bool) Way) {
	journal := filepath.Join(t.TempDir(), "settings")
	former := open(t, journal)
	config := Config{
		Networks: prefixes("100.88.0.0/16"), Destinations: prefixes("10.1.0.0/16"), Refused: prefixes("0.0.0.0/0"),
		Carried: prefixes("192.168.7.0/24"),
	}
	if err := former.Set(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if got := read(t, "ipv4/conf/eth0/forwarding"); got != "1" {
		t.Errorf("forwarding of eth0 is %s", got)
	}
	beside := journal + " of another agent"
	if err := os.WriteFile(beside, must(os.ReadFile(journal)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{beside, beside + " that is empty"} {
		if err := Undo(Options{Logger: slog.New(slog.DiscardHandler), Journal: path}); err != nil {
			t.Fatal(err)
		}
	}
	if got := way(netip.MustParseAddr("10.1.0.1"), false); got != WayTunnel {
		t.Errorf("Undo touched the routes of an agent that runs: %s", got)
	}
	dies(t, former)
	next := open(t, journal)
	if got := way(netip.MustParseAddr("198.51.100.1"), false); got != WayRefused {
		t.Errorf("before the next agent has its routes, what was refused goes to %s", got)
	}
	if err := next.Set(t.Context(), Config{Networks: config.Networks, Destinations: prefixes("10.2.0.0/16")}); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]Way{"10.1.0.1": WayHost, "10.2.0.1": WayTunnel, "198.51.100.1": WayHost} {
		if got := way(netip.MustParseAddr(to), false); got != want {
			t.Errorf("a packet to %s goes to %s, want %s", to, got, want)
		}
	}
	if got := read(t, "ipv4/conf/eth0/forwarding"); got != "0" {
		t.Errorf("forwarding of eth0 is still %s", got)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(journal); err == nil {
		t.Error("the journal is still there")
	}
}

// interfaceGone is how a killed agent leaves the host: its interface is gone.
func interfaceGone(t *testing.T, way func(netip.Addr, bool) Way) {
	journal := filepath.Join(t.TempDir(), "settings")
	k := open(t, journal)
	if err := k.Set(t.Context(), Config{Refused: prefixes("0.0.0.0/0", "::/0"), Carried: prefixes("192.168.7.0/24")}); err != nil {
		t.Fatal(err)
	}
	if got := way(netip.MustParseAddr("198.51.100.1"), false); got != WayRefused {
		t.Errorf("a packet goes to %s", got)
	}
	dies(t, k)
	for _, step := range []struct {
		keep bool
		want Way
	}{{true, WayRefused}, {true, WayRefused}, {false, WayHost}, {false, WayHost}} {
		if err := Undo(Options{Logger: slog.New(slog.DiscardHandler), Journal: journal, KeepRefused: step.keep}); err != nil {
			t.Fatal(err)
		}
		if got := way(netip.MustParseAddr("198.51.100.1"), false); got != step.want {
			t.Errorf("after Undo, keeping %t, a packet goes to %s", step.keep, got)
		}
		if got := read(t, "ipv4/conf/eth0/forwarding"); got != "0" {
			t.Errorf("forwarding of eth0 is still %s", got)
		}
	}
	if _, err := os.Stat(journal); err == nil {
		t.Error("the journal is still there")
	}
}

// nothingRefused is a killed agent that kept nothing in: nothing of it stays.
func nothingRefused(t *testing.T, way func(netip.Addr, bool) Way) {
	journal := filepath.Join(t.TempDir(), "settings")
	k := open(t, journal)
	if err := k.Set(t.Context(), Config{Destinations: prefixes("10.1.0.0/16")}); err != nil {
		t.Fatal(err)
	}
	dies(t, k)
	if err := Undo(Options{Logger: slog.New(slog.DiscardHandler), Journal: journal, KeepRefused: true}); err != nil {
		t.Fatal(err)
	}
	if got := way(netip.MustParseAddr("10.1.0.1"), false); got != WayHost {
		t.Errorf("a packet goes to %s", got)
	}
	if _, err := os.Stat(journal); err == nil {
		t.Error("the journal is still there")
	}
}

// openAs opens the Host of an agent with an interface of its own.
func openAs(name, journal string) (*Kernel, error) {
	return NewKernel(Options{Logger: slog.New(slog.DiscardHandler), Interface: name, Journal: journal})
}

// besideAnother are agents whose interfaces begin with the same table.
func besideAnother(t *testing.T, way func(netip.Addr, bool) Way) {
	var journals []string
	var all []*Kernel
	for i := range slots {
		journals = append(journals, filepath.Join(t.TempDir(), "settings"))
		k, err := openAs("wt0", journals[i])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
		destination := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i + 1)}), 16)
		if err := k.Set(t.Context(), Config{Destinations: []netip.Prefix{destination}, Refused: prefixes("2001:db8::/32")}); err != nil {
			t.Fatal(err)
		}
	}
	led := func(when string) {
		t.Helper()
		for i := range all {
			if got := way(netip.AddrFrom4([4]byte{10, byte(i + 1), 0, 1}), false); got != WayTunnel {
				t.Errorf("%s: what agent %d leads goes to %s", when, i, got)
			}
		}
	}
	led("each with its table")
	if _, err := openAs("wt0", filepath.Join(t.TempDir(), "settings")); err == nil ||
		!strings.Contains(err.Error(), "other agents of this host have the routing tables 22439 to 22448; stop one of them") {
		t.Errorf("one more than there are tables: %v", err)
	}
	// The second comes back while the first is away: each has its own table still.
	dies(t, all[0])
	dies(t, all[1])
	for _, i := range []int{1, 0} {
		next, err := openAs("wt0", journals[i])
		if err != nil {
			t.Fatal(err)
		}
		if next.table != all[i].table {
			t.Errorf("agent %d has table %d, and had %d", i, next.table, all[i].table)
		}
		all[i] = next
	}
	// One that was never there takes no table that waits for its agent.
	dies(t, all[3])
	if k, err := openAs("wt0", filepath.Join(t.TempDir(), "settings")); err == nil {
		t.Errorf("a stranger has the table %d of an agent that was killed", k.table)
	}
	led("after a kill")
	next, err := openAs("wt0", journals[3])
	if err != nil {
		t.Fatal(err)
	}
	all[3] = next
	for _, k := range all {
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// renamed is an agent whose interface has another name than before.
func renamed(t *testing.T, way func(netip.Addr, bool) Way) {
	interfaceWith(t, "other0")
	journal := filepath.Join(t.TempDir(), "settings")
	former := open(t, journal)
	if err := former.Set(t.Context(), Config{Destinations: prefixes("10.1.0.0/16"), Refused: prefixes("0.0.0.0/0")}); err != nil {
		t.Fatal(err)
	}
	if refuses, err := former.Suspend(); err != nil || !refuses {
		t.Fatalf("refuses: %t, %v", refuses, err)
	}
	next, err := openAs("other0", journal)
	if err != nil {
		t.Fatal(err)
	}
	if got := way(netip.MustParseAddr("198.51.100.1"), false); got != WayRefused {
		t.Errorf("meanwhile a packet goes to %s", got)
	}
	if err := next.Set(t.Context(), Config{Destinations: prefixes("10.2.0.0/16")}); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]Way{"10.1.0.1": WayHost, "198.51.100.1": WayHost} {
		if got := way(netip.MustParseAddr(to), false); got != want {
			t.Errorf("a packet to %s goes to %s, want %s", to, got, want)
		}
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
}

// fullDisk is a journal that cannot be written: nothing changes.
func fullDisk(t *testing.T, way func(netip.Addr, bool) Way) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k,nr_inodes=1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	k := open(t, filepath.Join(dir, "settings"))
	err := k.Set(t.Context(), Config{Destinations: prefixes("10.1.0.0/16"), Carried: prefixes("192.168.7.0/24")})
	if err == nil || !strings.Contains(err.Error(), "the disk is full; free some space, nothing was changed") {
		t.Errorf("error %v", err)
	}
	if got := way(netip.MustParseAddr("10.1.0.1"), false); got != WayHost {
		t.Errorf("a packet goes to %s", got)
	}
	if got := read(t, "ipv4/conf/eth0/forwarding"); got != "0" {
		t.Errorf("forwarding of eth0 is %s", got)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
}

// dies ends an agent as a kill does: what it holds goes, what it has set stays.
func dies(t *testing.T, k *Kernel) {
	t.Helper()
	if err := k.release(); err != nil {
		t.Fatal(err)
	}
}

func must(raw []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return raw
}

func repaired(t *testing.T, way func(netip.Addr, bool) Way) {
	k := open(t, filepath.Join(t.TempDir(), "settings"))
	config := Config{Networks: prefixes("100.88.0.0/16"), Destinations: prefixes("10.1.0.0/16")}
	if err := k.Set(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := k.clear(); err != nil {
		t.Fatal(err)
	}
	if err := k.Set(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if got := way(netip.MustParseAddr("10.1.0.1"), false); got != WayTunnel {
		t.Errorf("a packet goes to %s", got)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	value, err := readSetting(name)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func carried(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "settings"))
	names := []string{
		"ipv4/conf/eth0/forwarding", "ipv4/conf/wt0/forwarding", "ipv6/conf/all/forwarding", "ipv6/conf/eth0/forwarding", "ipv6/conf/eth0/accept_ra",
	}
	values := func() string {
		var list []string
		for _, name := range names {
			list = append(list, read(t, name))
		}
		return strings.Join(list, " ")
	}
	before := values()
	for _, step := range []struct {
		carried []netip.Prefix
		want    string
	}{
		{prefixes("192.168.7.0/24"), "1 1 0 0 1"},
		{prefixes("0.0.0.0/0", "::/0"), "1 1 1 1 2"},
		{prefixes("fd00:7::/64"), "0 0 1 1 2"},
		{nil, before},
	} {
		if err := k.Set(t.Context(), Config{Carried: step.carried}); err != nil {
			t.Fatal(err)
		}
		if got := values(); got != step.want {
			t.Errorf("carrying %v: %s, want %s", step.carried, got, step.want)
		}
	}
	if before != "0 0 0 0 1" {
		t.Errorf("the test began with %s", before)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
}

func overtaken(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "settings"))
	if err := k.Set(t.Context(), Config{Carried: prefixes("fd00:7::/64")}); err != nil {
		t.Fatal(err)
	}
	if err := writeSetting("ipv6/conf/eth0/accept_ra", "0"); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, "ipv6/conf/eth0/accept_ra"); got != "0" {
		t.Errorf("accept_ra is %s, want what was set by hand", got)
	}
}

func unreachable(t *testing.T, eth int) {
	if err := netlink.RouteDel(&netlink.Route{Gw: net.ParseIP("192.168.7.1"), LinkIndex: eth}); err != nil {
		t.Fatal(err)
	}
	k := open(t, filepath.Join(t.TempDir(), "settings"))
	if err := k.Set(t.Context(), Config{Carried: prefixes("10.9.0.0/16")}); err != nil {
		t.Fatal(err)
	}
	if notes := k.Status().Notes; len(notes) != 1 || !strings.Contains(notes[0], "no way to 10.9.0.0/16") {
		t.Errorf("notes %q", notes)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
}

package lab

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	// gateway is the address of the internet on each of its links.
	gateway = netip.MustParseAddr("203.0.113.254")
	// internetBase is below the first address of the internet (RFC 5737).
	internetBase = netip.MustParseAddr("203.0.113.0")
)

// labs counts the labs of this process, which share one list of namespaces.
var labs atomic.Int64

// A Lab is one internet with all that is attached to it.
type Lab struct {
	prefix string
	core   *Host

	mu       sync.Mutex // guards what follows
	internet int        // addresses given out
	lans     int
	hosts    map[string]*Host
	routers  map[string]*Router
	wans     map[string]*WAN
	ending   []func() // of gateways
}

// A Network is what hosts and routers are attached to: the Internet or a LAN.
type Network interface {
	// attach joins iface of h to the network, with the next free address of each
	// version of IP in stack.
	attach(h *Host, iface string, stack Stack) error
}

// A Host is a machine: a network namespace with one interface.
type Host struct {
	// Name is what the lab calls it, unique in the lab.
	Name string
	// Addr is its address on the network it is attached to, the one of IPv6 if
	// it has no other.
	Addr netip.Addr
	// Addr6 is its address under IPv6; the zero Addr when it has none.
	Addr6 netip.Addr

	lab       *Lab
	namespace string
	mounts    *os.File // its mount namespace, in which /etc/resolv.conf is its own
}

// New builds an empty internet, which disappears with the test. Where no lab
// can be had it skips the test.
func New(t testing.TB) *Lab {
	t.Helper()
	if outside != "" {
		Skip(t, outside)
	}
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Open builds an empty internet. It returns the reason when the process is not
// inside Main, or Main could not make a lab.
func Open() (*Lab, error) {
	if outside != "" {
		return nil, errors.New(outside)
	}
	l := &Lab{
		prefix:  fmt.Sprintf("lab%d-", labs.Add(1)),
		hosts:   make(map[string]*Host),
		routers: make(map[string]*Router),
		wans:    make(map[string]*WAN),
	}
	core, err := l.namespace("core")
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.core = core
	if err := errors.Join(core.forward(), core.nft(coreRules)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close removes every host. Processes that still run on one keep its
// namespace, without a network, until they end.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, end := range l.ending {
		end()
	}
	l.ending = nil
	for name, w := range l.wans {
		errs = append(errs, w.close())
		delete(l.wans, name)
	}
	for name, h := range l.hosts {
		errs = append(errs, tool("", "ip", "netns", "delete", h.namespace), h.forgetName(), h.mounts.Close())
		delete(l.hosts, name)
	}
	return errors.Join(errs...)
}

// Internet returns the network that everything is reached through.
func (l *Lab) Internet() Network { return internet{l} }

// Host makes a machine on network, with the network's versions of IP; IPv4
// alone on the internet. It returns an error when the name is taken.
func (l *Lab) Host(name string, network Network) (*Host, error) {
	return l.HostWith(name, network, 0)
}

// HostWith makes a machine that has the versions of IP in stack.
func (l *Lab) HostWith(name string, network Network, stack Stack) (*Host, error) {
	return l.machine(name, network, "eth0", stack)
}

func (l *Lab) machine(name string, network Network, iface string, stack Stack) (*Host, error) {
	h, err := l.namespace(name)
	if err != nil {
		return nil, err
	}
	if err := network.attach(h, iface, stack); err != nil {
		return nil, fmt.Errorf("lab: %s: %w", name, err)
	}
	return h, nil
}

// Find returns the host of that name; routers are hosts as well.
func (l *Lab) Find(name string) (*Host, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.hosts[name]
	return h, ok
}

// FindRouter returns the router of that name.
func (l *Lab) FindRouter(name string) (*Router, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.routers[name]
	return r, ok
}

// namespace makes a host that is attached to nothing.
func (l *Lab) namespace(name string) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, taken := l.hosts[name]; taken {
		return nil, fmt.Errorf("lab: the name %s is taken", name)
	}
	h := &Host{Name: name, lab: l, namespace: l.prefix + name}
	if err := h.keepMounts(); err != nil {
		return nil, err
	}
	if err := tool("", "ip", "netns", "add", h.namespace); err != nil {
		return nil, errors.Join(err, h.mounts.Close())
	}
	l.hosts[name] = h
	return h, errors.Join(h.keepName(), h.ip("link set lo up"))
}

// link joins two namespaces with a pair of interfaces.
func link(a *Host, aIface string, b *Host, bIface string) error {
	if err := tool("", "ip", "-n", a.namespace, "link", "add", aIface, "type", "veth", "peer", "name", bIface, "netns", b.namespace); err != nil {
		return err
	}
	// Link-local addresses would be one more path between neighbours, and
	// appear seconds late.
	return errors.Join(
		a.ip("link set "+aIface+" addrgenmode none", "link set "+aIface+" up"),
		b.ip("link set "+bIface+" addrgenmode none", "link set "+bIface+" up"),
	)
}

// internet is the Network of the core.
type internet struct{ *Lab }

func (i internet) attach(h *Host, iface string, stack Stack) error {
	i.mu.Lock()
	i.Lab.internet++
	n := i.Lab.internet
	i.mu.Unlock()
	if n >= 254 {
		return errors.New("the internet is full")
	}
	stack = cmp.Or(stack, IPv4)
	port := fmt.Sprintf("port%d", n)
	if err := link(i.core, port, h, iface); err != nil {
		return err
	}
	var errs []error
	if stack.six() {
		h.Addr6 = internetAddr6(n)
		h.Addr = h.Addr6
		errs = append(errs, i.join(h, iface, port, h.Addr6, gateway6))
	}
	if stack.four() {
		h.Addr = internetAddr(n)
		errs = append(errs, i.join(h, iface, port, h.Addr, gateway))
	}
	return errors.Join(errs...)
}

// join gives a link of the internet its two addresses, which are no neighbours
// of anybody else's.
func (i internet) join(h *Host, iface, port string, addr, core netip.Addr) error {
	nodad, failure := "", error(nil)
	if addr.Is6() {
		nodad = " nodad" // without it the address could not be used for a second
		failure = i.core.solicits(port)
	}
	return errors.Join(
		failure,
		i.core.ip(
			fmt.Sprintf("addr add %s/%d dev %s%s", core, core.BitLen(), port, nodad),
			fmt.Sprintf("route add %s/%d dev %s", addr, addr.BitLen(), port)),
		h.ip(
			fmt.Sprintf("addr add %s/%d dev %s%s", addr, addr.BitLen(), iface, nodad),
			fmt.Sprintf("route add default via %s dev %s onlink", core, iface)),
	)
}

// coreRules lets stories cut the internet between two addresses.
const coreRules = `
table ip core {
	set cut {
		type ipv4_addr . ipv4_addr
	}
	set cut_udp {
		type ipv4_addr . ipv4_addr
	}
	chain forward {
		type filter hook forward priority 0; policy accept;
		ip saddr . ip daddr @cut drop
		meta l4proto udp ip saddr . ip daddr @cut_udp drop
	}
}
table ip6 core {
	set cut {
		type ipv6_addr . ipv6_addr
	}
	set cut_udp {
		type ipv6_addr . ipv6_addr
	}
	chain forward {
		type filter hook forward priority 0; policy accept;
		ip6 saddr . ip6 daddr @cut drop
		meta l4proto udp ip6 saddr . ip6 daddr @cut_udp drop
	}
}
`

// Cut drops everything that two addresses of the internet send each other, or
// UDP only.
func (l *Lab) Cut(a, b netip.Addr, udpOnly bool) error { return l.setCut("add", a, b, udpOnly) }

// Mend ends a Cut of the same two addresses.
func (l *Lab) Mend(a, b netip.Addr, udpOnly bool) error { return l.setCut("delete", a, b, udpOnly) }

func (l *Lab) setCut(verb string, a, b netip.Addr, udpOnly bool) error {
	set := "cut"
	if udpOnly {
		set = "cut_udp"
	}
	family := "ip"
	if a.Is6() {
		family = "ip6"
	}
	return l.core.nft(fmt.Sprintf("%s element %s core %s { %s . %s, %s . %s }\n", verb, family, set, a, b, b, a))
}

// Command makes a command that runs on the host, in the folder and with the
// environment of the process unless the caller sets Dir and Env.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	mounts := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.mounts.Fd())
	return exec.CommandContext(ctx, "sh", append([]string{"-c", enterScript, h.path(), h.utsPath(), mounts, name}, args...)...)
}

// enterScript runs a program on the host whose network, name and mounts are the
// files $0, $1 and $2. Entering a mount namespace leads to its root, so that the
// folder is handed on. It is short since what is timed often begins with it.
const enterScript = `uts=$1; mounts=$2; shift 2
exec nsenter --net="$0" --uts="$uts" --mount="$mounts" --wdns="$PWD" -- "$@"`

// keepMounts makes a mount namespace in which /etc/resolv.conf is empty and the
// host's own: what an agent writes there reaches no other machine.
func (h *Host) keepMounts() error {
	folder := "/run/etc/" + h.namespace
	if err := os.MkdirAll(folder, 0o755); err != nil { // as in /etc
		return fmt.Errorf("lab: %w", err)
	}
	own := filepath.Join(folder, "resolv.conf")
	if err := os.WriteFile(own, nil, 0o644); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return alone(func() error {
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount(own, resolvConf, "", unix.MS_BIND, "")
		}
		if err == nil {
			h.mounts, err = os.Open("/proc/thread-self/ns/mnt")
		}
		if err != nil {
			return fmt.Errorf("lab: give the host %s a resolv.conf of its own: %w", h.Name, err)
		}
		return nil
	})
}

// resolvConf is where a machine reads which name servers it asks (resolv.conf(5)).
const resolvConf = "/etc/resolv.conf"

func (h *Host) utsPath() string { return filepath.Join("/run/uts", h.namespace) }

// keepName makes a UTS namespace in which the machine's host name is Name.
func (h *Host) keepName() error {
	file, err := os.Create(h.utsPath())
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return alone(func() error {
		err := unix.Unshare(unix.CLONE_NEWUTS)
		if err == nil {
			err = unix.Sethostname([]byte(h.Name))
		}
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/uts", h.utsPath(), "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("lab: name the host %s: %w", h.Name, err)
		}
		return nil
	})
}

func (h *Host) forgetName() error {
	if err := unix.Unmount(h.utsPath(), unix.MNT_DETACH); err != nil {
		return fmt.Errorf("lab: forget the name of %s: %w", h.Name, err)
	}
	return os.Remove(h.utsPath())
}

func (h *Host) path() string { return filepath.Join("/run/netns", h.namespace) }

// Do calls f on a thread that is inside the host's namespace. Sockets that f
// opens stay there; goroutines that it starts do not.
func (h *Host) Do(f func() error) error {
	return alone(func() error {
		namespace, err := os.Open(h.path())
		if err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
		if err = errors.Join(err, namespace.Close()); err != nil {
			return fmt.Errorf("lab: enter %s: %w", h.Name, err)
		}
		return f()
	})
}

// alone calls f on a thread of its own, which ends with it.
func alone(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: no other goroutine gets this thread
		done <- f()
	}()
	return <-done
}

// solicits lets a router find its neighbours on iface, for packets that are not
// its own: it needs a link-local address for that (RFC 4861, section 7.2.2).
// Other hosts have none.
func (h *Host) solicits(iface string) error {
	return h.ip("addr add fe80::1/64 dev " + iface + " nodad")
}

// forward makes the host a router.
func (h *Host) forward() error {
	return h.Do(func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o600),
		)
	})
}

// ip runs lines of ip-batch in the host's namespace.
func (h *Host) ip(lines ...string) error {
	return tool(strings.Join(lines, "\n")+"\n", "ip", "-n", h.namespace, "-batch", "-")
}

// nft loads rules in the host's namespace, all or none.
func (h *Host) nft(rules string) error {
	return tool(rules, "nsenter", "--net="+h.path(), "--", "nft", "-f", "-")
}

// tool runs a program of the system that returns at once.
func tool(stdin, name string, args ...string) error {
	var stderr bytes.Buffer
	command := exec.Command(name, args...)
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &stderr, &stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("lab: %s %s: %w: %s%s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()), stdin)
	}
	return nil
}

package system

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// The tests of this file run the real managers, unpacked from their Debian
// packages, in namespaces of their own: with a private /run, /etc and message
// bus, and with a wt0 that is a TUN device. The folder of programsVariable holds
// one folder for each package; .ci/run makes it.
const programsVariable = "WATTLE_DNS_PROGRAMS"

func TestMain(m *testing.M) { os.Exit(lab.Main(m.Run)) }

// install lays the files of packages over those of the machine, and makes /etc
// private. It skips the test where there are no packages, and fails where one is
// missing.
func install(t *testing.T, packages ...string) {
	t.Helper()
	lab.New(t) // skips outside
	folder := os.Getenv(programsVariable)
	if folder == "" {
		lab.Skip(t, "managers of name servers are tried when "+programsVariable+" names the folder that .ci/run makes, as make does when it is there")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		lab.Skip(t, "managers of name servers need /dev/net/tun for an interface that is ours")
	}
	private := t.TempDir()
	for _, name := range []string{"passwd", "group", "nsswitch.conf", "hosts", "ld.so.cache", "machine-id", "alternatives"} {
		if _, err := os.Stat(filepath.Join("/etc", name)); err == nil {
			shell(t, "cp", "-r", filepath.Join("/etc", name), private)
		}
	}
	write(t, filepath.Join(private, "resolv.conf"), "")
	layers := map[string][]string{}
	for _, name := range packages {
		root := filepath.Join(folder, name)
		if _, err := os.Stat(root); err != nil {
			t.Fatalf("%s lacks a package: %v; run .ci/run", folder, err)
		}
		if _, err := os.Stat(filepath.Join(root, "etc")); err == nil {
			shell(t, "cp", "-r", filepath.Join(root, "etc")+"/.", private)
		}
		for _, part := range []string{"bin", "sbin", "lib", "usr/bin", "usr/sbin", "usr/lib"} {
			if _, err := os.Stat(filepath.Join(root, part)); err == nil {
				at := filepath.Join("/usr", filepath.Base(part))
				layers[at] = append(layers[at], filepath.Join(root, part))
			}
		}
	}
	for at, above := range layers {
		mount(t, "overlay", at, "overlay", 0, "lowerdir="+strings.Join(append(above, at), ":"))
	}
	mount(t, private, "/etc", "", unix.MS_BIND, "")
	mount(t, "tmpfs", "/run", "tmpfs", 0, "mode=0755")
	for _, dir := range []string{"/run/dbus", "/run/systemd/resolve", "/run/NetworkManager"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func mount(t *testing.T, source, target, kind string, flags uintptr, options string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, options); err != nil {
		t.Fatalf("mount %s: %v", target, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func shell(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), name, args...)
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// write makes a file.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// daemon runs a program until the test ends and shows what it said if that fails.
func daemon(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var said bytes.Buffer
	command := exec.CommandContext(ctx, name, args...)
	command.Cancel = func() error { return command.Process.Signal(unix.SIGTERM) }
	command.WaitDelay = 5 * time.Second
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Wait() // ended by us
		if t.Failed() {
			t.Logf("%s said:\n%s", name, said.String())
		}
	})
}

// eventually waits for what a program of others does in its own time.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/>
    <allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
`

// startBus starts the message bus.
func startBus(t *testing.T) {
	t.Helper()
	write(t, "/run/bus.conf", busConfig)
	daemon(t, "dbus-daemon", "--config-file=/run/bus.conf", "--nofork", "--nopidfile")
	eventually(t, "the message bus listens", func() bool {
		_, err := os.Stat("/run/dbus/system_bus_socket")
		return err == nil
	})
}

// waitFor waits until a program has its name on the bus.
func waitFor(t *testing.T, name string) {
	t.Helper()
	var b bus
	eventually(t, name+" is on the bus", func() bool { return b.running(t.Context(), name) })
	if err := b.close(); err != nil {
		t.Error(err)
	}
}

// makeTunnel makes wt0, with a process that holds it.
func makeTunnel(t *testing.T) {
	t.Helper()
	device, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = device.Close() }) // wt0 goes with it
	request, err := unix.NewIfreq("wt0")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(int(device.Fd()), unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	shell(t, "ip", "link", "set", "wt0", "up")
	shell(t, "ip", "addr", "add", "100.64.0.1/16", "dev", "wt0")
	shell(t, "ip", "-6", "addr", "add", "fd00:1::1/64", "dev", "wt0")
}

// opened is what Open finds on this machine.
func opened(kind Kind) func(t *testing.T, o Options) Setter {
	return func(t *testing.T, o Options) Setter {
		o.Kind = Auto
		s, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Status().Kind; got != kind {
			t.Fatalf("it is %s, want %s", got, kind)
		}
		return s
	}
}

// inFile reads what the programs of a machine ask out of its resolv.conf.
func inFile(t *testing.T) (servers, search []string) {
	text, err := readFile(resolvConf)
	if err != nil {
		t.Fatal(err)
	}
	f := parseFile(text)
	return hosts(f.former().Servers), f.search
}

func replaceConf(t *testing.T, text string) {
	t.Helper()
	if err := os.Remove(resolvConf); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	write(t, resolvConf, text)
}

func TestResolvedConforms(t *testing.T) {
	install(t, "systemd-resolved")
	// It would give up root for this user, of whom a namespace knows nothing.
	users, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(users)) {
		if !strings.HasPrefix(line, "systemd-resolve:") {
			kept.WriteString(line)
		}
	}
	write(t, "/etc/passwd", kept.String()+"systemd-resolve:x:0:0::/:/bin/false\n")
	write(t, "/etc/systemd/resolved.conf", "[Resolve]\nDNS=192.0.2.53\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\n")
	write(t, "/run/systemd/resolve/stub-resolv.conf", "")
	if err := errors.Join(os.Remove(resolvConf), os.Symlink("../run/systemd/resolve/stub-resolv.conf", resolvConf)); err != nil {
		t.Fatal(err)
	}
	startBus(t)
	daemon(t, "/usr/lib/systemd/systemd-resolved")
	waitFor(t, resolvedName)
	makeTunnel(t)
	eventually(t, "the stub is written", func() bool {
		text, err := readFile(resolvConf)
		return err == nil && strings.Contains(text, "127.0.0.53")
	})
	last := func(text string) []string {
		_, list, _ := strings.Cut(strings.TrimSpace(text), ":")
		return strings.Fields(list)
	}
	conform(t, place{
		open: opened(Resolved),
		asks: func(t *testing.T) (servers, search []string) {
			for _, domain := range last(shell(t, "resolvectl", "domain", "wt0")) {
				if !strings.HasPrefix(domain, "~") {
					search = append(search, domain)
				}
			}
			return last(shell(t, "resolvectl", "dns", "wt0")), search
		},
		former: "192.0.2.53", crash: true,
	})

	// What the conformance cannot see: domains that only route, and ports.
	s := opened(Resolved)(t, optionsOf(t))
	c := wish
	c.Servers = append(slices.Clone(c.Servers[:1:1]), ours6)
	if err := s.Set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := shell(t, "resolvectl", "domain", "wt0"); !strings.Contains(got, "~corp.example.org") || strings.Contains(got, "~.") {
		t.Errorf("domains: %s", got)
	}
	if got := shell(t, "resolvectl", "default-route", "wt0"); !strings.Contains(got, "no") {
		t.Errorf("default route: %s", got)
	}
	c = other
	if err := s.Set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := shell(t, "resolvectl", "domain", "wt0") + shell(t, "resolvectl", "default-route", "wt0"); !strings.Contains(got, "~.") || !strings.Contains(got, "yes") {
		t.Errorf("all names: %s", got)
	}
	c.Servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.87.53:5387")}
	if err := s.Set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := last(shell(t, "resolvectl", "dns", "wt0")); !slices.Equal(got, []string{"127.0.87.53:5387"}) {
		t.Errorf("servers: %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNetworkManagerConforms(t *testing.T) {
	install(t, "network-manager")
	mount(t, "sysfs", "/sys", "sysfs", unix.MS_RDONLY, "") // else it waits for udev
	shell(t, "ip", "link", "add", "nm0", "type", "veth", "peer", "name", "nm1")
	shell(t, "ip", "link", "set", "nm1", "up")
	t.Cleanup(func() { shellAfter(t, "ip", "link", "delete", "nm0") })
	write(t, "/run/nm/NetworkManager.conf", "[main]\nplugins=keyfile\ndns=default\nrc-manager=file\nauth-polkit=false\nno-auto-default=*\n[keyfile]\npath=/run/nm/connections\n")
	write(t, "/run/nm/connections/nm0.nmconnection", "[connection]\nid=nm0\ntype=ethernet\ninterface-name=nm0\nuuid=11111111-2222-3333-4444-555555555555\n"+
		"[ipv4]\nmethod=manual\naddress1=192.0.2.5/24,192.0.2.1\ndns=192.0.2.53;\ndns-search=example.net;\n[ipv6]\nmethod=disabled\n")
	replaceConf(t, "")
	if err := os.MkdirAll("/var/lib/NetworkManager", 0o755); err != nil && !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
	startBus(t)
	daemon(t, "/usr/sbin/NetworkManager", "--debug", "--config=/run/nm/NetworkManager.conf", "--config-dir=/run/nm/conf.d",
		"--system-config-dir=/run/nm/system", "--intern-config=/run/nm/intern.conf", "--state-file=/run/nm/state", "--log-level=DEBUG", "--log-domains=DNS,DEVICE,IP")
	waitFor(t, managerName)
	makeTunnel(t)
	eventually(t, "resolv.conf is written", func() bool {
		text, err := readFile(resolvConf)
		return err == nil && strings.Contains(text, "192.0.2.53")
	})
	conform(t, place{open: opened(NetworkManager), asks: inFile, former: "192.0.2.53", crash: true})
}

// shellAfter is shell for the end of a test, whose context is over.
func shellAfter(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}

func optionsOf(t *testing.T) Options {
	return Options{Logger: quiet, Journal: filepath.Join(t.TempDir(), "dns.json")}
}

func TestOpenresolvConforms(t *testing.T) { resolvconfConforms(t, "openresolv") }

func TestDebianResolvconfConforms(t *testing.T) { resolvconfConforms(t, "resolvconf") }

func resolvconfConforms(t *testing.T, name string) {
	install(t, name)
	replaceConf(t, "")
	if name == "resolvconf" {
		for _, dir := range []string{"/run/resolvconf/interface"} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		write(t, "/run/resolvconf/enable-updates", "")
		if err := errors.Join(os.Remove(resolvConf), os.Symlink("/run/resolvconf/resolv.conf", resolvConf)); err != nil {
			t.Fatal(err)
		}
	}
	give := func(t *testing.T, server string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), "resolvconf", "-a", "eth0.dhcp")
		command.Stdin = strings.NewReader("nameserver " + server + "\nsearch example.net\n")
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("resolvconf: %v\n%s", err, out)
		}
	}
	give(t, "192.0.2.53")
	conform(t, place{open: opened(Resolvconf), asks: inFile, move: give, former: "192.0.2.53", crash: true})
}

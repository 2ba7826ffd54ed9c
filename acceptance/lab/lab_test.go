//go:build linux

package lab_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/acceptance/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m.Run)) }

// arrival bounds the wait for a packet that has to come. Nothing is measured.
const arrival = time.Minute

// host and router fail the test instead of returning an error.
func host(t *testing.T, l *lab.Lab, name string, network lab.Network) *lab.Host {
	t.Helper()
	h, err := l.Host(name, network)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func router(t *testing.T, l *lab.Lab, name string, kind lab.NAT, network lab.Network) *lab.Router {
	t.Helper()
	r, err := l.Router(name, kind, network)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A socket is a UDP socket on a host of the lab.
type socket struct {
	*net.UDPConn
	t *testing.T
}

func listen(t *testing.T, h *lab.Host) socket {
	t.Helper()
	var conn *net.UDPConn
	err := h.Do(func() error {
		var err error
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: h.Addr.AsSlice()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return socket{conn, t}
}

func (s socket) addr() netip.AddrPort { return s.LocalAddr().(*net.UDPAddr).AddrPort() }

func (s socket) send(text string, to netip.AddrPort) {
	s.t.Helper()
	if _, err := s.WriteToUDPAddrPort([]byte(text), to); err != nil {
		s.t.Fatal(err)
	}
}

// receive waits for the next packet; ok is false when none comes in time.
func (s socket) receive(patience time.Duration) (text string, from netip.AddrPort, ok bool) {
	s.t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	buffer := make([]byte, 1500)
	n, from, err := s.ReadFromUDPAddrPort(buffer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", from, false
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return string(buffer[:n]), from, true
}

// reach sends to a socket and returns the address from which it came there.
func (s socket) reach(to socket) netip.AddrPort {
	s.t.Helper()
	s.send("hello", to.addr())
	text, from, ok := to.receive(arrival)
	if !ok || text != "hello" {
		s.t.Fatalf("nothing came from %s to %s", s.addr(), to.addr())
	}
	return from
}

func TestHostsReachEachOther(t *testing.T) {
	l := lab.New(t)
	a := listen(t, host(t, l, "a", l.Internet()))
	b := listen(t, host(t, l, "b", l.Internet()))
	if from := a.reach(b); from != a.addr() {
		t.Errorf("a's packet came from %s, want %s", from, a.addr())
	}
}

func TestCommandRunsOnHost(t *testing.T) {
	l := lab.New(t)
	a := host(t, l, "a", l.Internet())
	out, err := a.Command(t.Context(), "ip", "-4", "-br", "addr", "show", "eth0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), a.Addr.String()+"/32") {
		t.Errorf("%s: %v", out, err)
	}
	out, err = a.Command(t.Context(), "uname", "-n").CombinedOutput()
	if err != nil || string(out) != "a\n" {
		t.Errorf("the host's name is %q: %v", out, err)
	}
	inside := a.Command(t.Context(), "sh", "-c", `pwd; echo "$1 $SAID"`, "sh", "two  words")
	inside.Dir, inside.Env = filepath.Join(t.TempDir(), "a folder"), append(os.Environ(), "SAID=so")
	if err := os.Mkdir(inside.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := inside.Output(); err != nil || string(out) != inside.Dir+"\ntwo  words so\n" {
		t.Errorf("%q: %v", out, err)
	}
}

func TestNamesAreUnique(t *testing.T) {
	l := lab.New(t)
	host(t, l, "a", l.Internet())
	if _, err := l.Host("a", l.Internet()); err == nil {
		t.Error("two hosts have one name")
	}
	if _, err := l.Router("r", "cone", l.Internet()); err == nil {
		t.Error("an unknown kind of NAT was built")
	}
}

func TestBlockedProtocol(t *testing.T) {
	l := lab.New(t)
	home := router(t, l, "home", lab.PortRestricted, l.Internet())
	server, inside := host(t, l, "server", l.Internet()), host(t, l, "inside", home)
	a, b := listen(t, inside), listen(t, server)
	a.reach(b)

	if err := home.Block("udp"); err != nil {
		t.Fatal(err)
	}
	a.send("lost", b.addr())
	fence(t, inside, server)
	if text, _, ok := b.receive(time.Nanosecond); ok {
		t.Errorf("%q came through a router that blocks UDP", text)
	}
	if err := home.Unblock("udp"); err != nil {
		t.Fatal(err)
	}
	a.reach(b)
}

func TestCut(t *testing.T) {
	l := lab.New(t)
	one, two := host(t, l, "a", l.Internet()), host(t, l, "b", l.Internet())
	third := listen(t, host(t, l, "c", l.Internet()))
	a, b := listen(t, one), listen(t, two)
	if err := l.Cut(one.Addr, two.Addr, true); err != nil {
		t.Fatal(err)
	}
	a.send("lost", b.addr())
	b.send("lost", a.addr())
	fence(t, one, two)
	for _, s := range []socket{a, b} {
		if text, _, ok := s.receive(time.Nanosecond); ok {
			t.Errorf("%q came through a cut", text)
		}
	}
	a.reach(third)
	if err := l.Mend(one.Addr, two.Addr, true); err != nil {
		t.Fatal(err)
	}
	a.reach(b)
}

// fence exchanges something over TCP, after which earlier packets between the
// two hosts have arrived or never will.
func fence(t *testing.T, from, to *lab.Host) {
	t.Helper()
	var listener net.Listener
	err := to.Do(func() (err error) {
		listener, err = net.Listen("tcp4", net.JoinHostPort(to.Addr.String(), "0"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = from.Do(func() error {
		conn, err := net.DialTimeout("tcp4", listener.Addr().String(), arrival)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err := errors.Join(err, listener.Close()); err != nil {
		t.Fatal(err)
	}
}

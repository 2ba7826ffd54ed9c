//go:build linux

package acceptance

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v3"

	"github.com/wattlenet/wattle/acceptance/lab"
	"github.com/wattlenet/wattle/relay/server"
)

const relaySecret = "the secret of a lab"

// TestRelayBetweenNATs lets two clients of another make meet through the real
// relay, from networks of every kind. Nothing else could connect the hardest.
func TestRelayBetweenNATs(t *testing.T) {
	for _, test := range []struct {
		name     string
		kind     lab.NAT
		blockUDP bool
		networks [2]string
	}{
		{"port-restricted over UDP", lab.PortRestricted, false, [2]string{"udp4", "udp4"}},
		{"symmetric over UDP", lab.Symmetric, false, [2]string{"udp4", "udp4"}},
		{"UDP blocked at one end", lab.Symmetric, true, [2]string{"tcp4", "udp4"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := lab.New(t)
			relay := must(l.Host("relay", l.Internet()))(t)
			home, office := must(l.Router("home", test.kind, l.Internet()))(t), must(l.Router("office", test.kind, l.Internet()))(t)
			alice, bob := must(l.Host("alice", home))(t), must(l.Host("bob", office))(t)
			if test.blockUDP {
				if err := home.Block("udp"); err != nil {
					t.Fatal(err)
				}
			}
			address := startRelay(t, relay)
			a := allocate(t, alice, test.networks[0], address, "alice")
			b := allocate(t, bob, test.networks[1], address, "bob")
			converse(t, a, b)
		})
	}
}

// must turns an error into the end of the test.
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// startRelay runs wattle-relay on a host until the test ends, and waits until
// it accepts connections.
func startRelay(t *testing.T, h *lab.Host) string {
	t.Helper()
	address := net.JoinHostPort(h.Addr.String(), "3478")
	command := h.Command(context.Background(), filepath.Join(os.Getenv(binVariable), "wattle-relay"), "--listen", address)
	command.Env = append(os.Environ(), "WATTLE_SECRET="+relaySecret)
	p := &process{make: func() *exec.Cmd { return command }}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.signal(syscall.SIGTERM); err != nil || p.err != nil {
			t.Errorf("the relay ended with %v, %v\n%s", err, p.err, p.tail())
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(pace) {
		conn, err := dial(h, "tcp4", address)
		if err == nil {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			return address
		}
		if !p.running() || time.Now().After(deadline) {
			t.Fatalf("the relay does not listen: %v\n%s", err, p.tail())
		}
	}
}

func dial(h *lab.Host, network, address string) (conn net.Conn, err error) {
	err = h.Do(func() error {
		conn, err = net.DialTimeout(network, address, time.Second)
		return err
	})
	return conn, err
}

// allocate makes an allocation with pion's client on a host.
func allocate(t *testing.T, h *lab.Host, network, address, peer string) net.PacketConn {
	t.Helper()
	var conn net.PacketConn
	if network == "tcp4" {
		conn = turn.NewSTUNConn(must(dial(h, network, address))(t))
	} else {
		err := h.Do(func() (err error) {
			conn, err = net.ListenPacket(network, net.JoinHostPort(h.Addr.String(), "0"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	credential := server.NewCredential(server.Secret(relaySecret), server.Holder{Account: "lab", Peer: peer}, time.Now().Add(time.Hour))
	client := must(turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: address,
		Conn:           conn,
		Username:       credential.Username,
		Password:       credential.Password,
		Realm:          server.Realm,
		LoggerFactory:  &logging.DefaultLoggerFactory{Writer: &bytes.Buffer{}, DefaultLogLevel: logging.LogLevelDisabled},
	}))(t)
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return must(client.Allocate())(t)
}

// converse sends numbered packets both ways between two allocations. Each side
// repeats until it hears the other: the first packets only open permissions.
func converse(t *testing.T, a, b net.PacketConn) {
	t.Helper()
	for i := range 20 {
		text := "packet number " + strconv.Itoa(i)
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		for deadline := time.Now().Add(patience); !heard(t, to, from, text); {
			if time.Now().After(deadline) {
				t.Fatalf("%q did not arrive", text)
			}
			for _, pair := range [][2]net.PacketConn{{from, to}, {to, from}} {
				if _, err := pair[0].WriteTo([]byte(text), pair[1].LocalAddr()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// heard reports whether text from another allocation is among what waits at
// conn.
func heard(t *testing.T, conn, from net.PacketConn, text string) bool {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(pace)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1500)
	for {
		n, source, err := conn.ReadFrom(buffer)
		if err != nil {
			return false
		}
		if string(buffer[:n]) == text && source.String() == from.LocalAddr().String() {
			return true
		}
	}
}

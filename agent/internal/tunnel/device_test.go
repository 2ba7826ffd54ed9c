package tunnel

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun"
)

// recorder is an interface that remembers what is written to it.
type recorder struct {
	tun.Device
	written []string
}

func (r *recorder) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		r.written = append(r.written, string(b[offset:]))
	}
	return len(bufs), nil
}

func TestPrivateKeysDoNotPrint(t *testing.T) {
	k := GenerateKey()
	var out strings.Builder
	log := slog.New(slog.NewJSONHandler(&out, nil))
	log.Info("key", "key", k, "inside", struct{ Key PrivateKey }{k})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		fmt.Fprintf(&out, verb, k)
		fmt.Fprintf(&out, verb, struct{ K *PrivateKey }{&k})
	}
	if secret := k.hex(); strings.Contains(out.String(), secret[:8]) || strings.Contains(out.String(), k.Encode()[:8]) {
		t.Errorf("a private key was printed: %s", out.String())
	}
	again, err := ParsePrivateKey(k.Encode())
	if err != nil || !again.Equal(k) || again.Public() != k.Public() {
		t.Errorf("the key did not survive its encoding: %v", err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	for _, text := range []string{"", "AAAA", "not base64!", GenerateKey().Public().String() + "A"} {
		if _, err := ParsePublicKey(text); err == nil {
			t.Errorf("%q was taken for a key", text)
		}
	}
}

func TestDiffPeers(t *testing.T) {
	a, b := GenerateKey().Public(), GenerateKey().Public()
	prefix := func(texts ...string) (out []netip.Prefix) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	one := []Peer{{PublicKey: a, AllowedIPs: prefix("10.0.0.1/32", "10.1.0.0/16")}, {PublicKey: b, AllowedIPs: prefix("10.0.0.2/32")}}
	turned := []Peer{{PublicKey: b, AllowedIPs: prefix("10.0.0.2/32")}, {PublicKey: a, AllowedIPs: prefix("10.1.0.0/16", "10.0.0.1/32")}}
	for name, c := range map[string]struct {
		before, after []Peer
		want          []string
	}{
		"same in another order": {one, turned, nil},
		"all new":               {nil, one, []string{"public_key", "endpoint=peer:", "allowed_ip=10.0.0.1/32"}},
		"one leaves":            {one, one[:1], []string{"remove=true"}},
		"one changes":           {one, []Peer{{PublicKey: one[0].PublicKey, AllowedIPs: prefix("10.5.0.0/16")}, one[1]}, []string{"allowed_ip=10.5.0.0/16", "allowed_ip=-10.0.0."}},
	} {
		got, err := diffPeers(c.before, c.after)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(c.want) == 0 && got != "" {
			t.Errorf("%s: something is set: %s", name, got)
		}
		for _, line := range c.want {
			if !strings.Contains(got, line) {
				t.Errorf("%s: %q is missing in\n%s", name, line, got)
			}
		}
	}
	moved, err := diffPeers([]Peer{{PublicKey: a, AllowedIPs: prefix("10.0.0.1/32", "10.9.0.0/16")}, {PublicKey: b}}, []Peer{{PublicKey: a, AllowedIPs: prefix("10.0.0.1/32")}, {PublicKey: b, AllowedIPs: prefix("10.9.0.0/16")}})
	if err != nil || strings.Count(moved, "10.9.0.0/16") != 1 || strings.Contains(moved, "replace") || strings.Contains(moved, "=-") {
		t.Errorf("a prefix does not move in one step: %v\n%s", err, moved)
	}
	if _, err := diffPeers(nil, []Peer{{PublicKey: a, AllowedIPs: prefix("10.0.0.0/24")}, {PublicKey: b, AllowedIPs: prefix("10.0.0.1/24")}}); err == nil {
		t.Error("one prefix was given to two peers")
	}
	if _, err := diffPeers(nil, []Peer{{}}); err == nil {
		t.Error("a peer without a key was accepted")
	}
}

func TestNewRefuses(t *testing.T) {
	log, key := slog.New(slog.DiscardHandler), GenerateKey()
	taken, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := uint16(taken.LocalAddr().(*net.UDPAddr).Port)
	stranger := testBind(t)
	for name, cfg := range map[string]Config{
		"no key":         {Logger: log, Mode: ModeNetstack},
		"no logger":      {PrivateKey: key, Mode: ModeNetstack},
		"small MTU":      {Logger: log, PrivateKey: key, Mode: ModeNetstack, MTU: 1279},
		"great MTU":      {Logger: log, PrivateKey: key, Mode: ModeNetstack, MTU: 9001},
		"unknown mode":   {Logger: log, PrivateKey: key, Mode: "kernal"},
		"another's bind": {Logger: log, PrivateKey: key, Mode: ModeNetstack, Bind: stranger},
		"port in use":    {Logger: log, PrivateKey: key, Mode: ModeNetstack, ListenPort: port},
	} {
		if d, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
			_ = d.Close()
		}
	}
}

func TestNetstackAddressesChange(t *testing.T) {
	key, peer := GenerateKey(), GenerateKey()
	d := newTestDevice(t, key, "10.9.0.1", nil, peerAt(peer, "10.9.0.2"))
	listener, err := d.Listen(netip.MustParseAddrPort("10.9.0.1:80"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	both := []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd00::1/64")}
	for range 2 {
		if err := d.Set(t.Context(), Settings{Addresses: both}); err != nil {
			t.Fatal(err)
		}
	}
	connection, err := d.Dial(t.Context(), netip.MustParseAddrPort("10.9.0.1:80"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	go func() {
		if accepted, err := listener.Accept(); err == nil {
			_, _ = io.WriteString(accepted, "hello")
			_ = accepted.Close()
		}
	}()
	if text, err := io.ReadAll(connection); err != nil || string(text) != "hello" {
		t.Errorf("read %q, %v", text, err)
	}
	if err := d.Set(t.Context(), Settings{Addresses: both[1:]}); err != nil {
		t.Fatal(err)
	}
	for _, address := range d.stack.net.AllAddresses()[stackNIC] {
		if address.AddressWithPrefix.Address.String() == "10.9.0.1" {
			t.Error("an address that was removed is still there")
		}
	}
}

func TestClosedDeviceRefuses(t *testing.T) {
	d := newTestDevice(t, GenerateKey(), "10.9.0.1", nil)
	for range 2 {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Set(t.Context(), Settings{}); err == nil {
		t.Error("a closed device was set")
	}
	if _, err := d.stack.Read([][]byte{make([]byte, 100)}, make([]int, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read: %v", err)
	}
}

// refusingBind takes single packets only, as a path with a small MTU does. As in
// the standard bind a batch becomes a train where there is memory behind its first packet.
type refusingBind struct {
	conn.Bind
	trains, batches, singles int
	refusal                  error // of trains
	err                      error // of all else
}

func (r *refusingBind) Send(bufs [][]byte, _ conn.Endpoint) error {
	switch {
	case len(bufs) == 1:
		r.singles++
	case cap(bufs[0]) > len(bufs[0]):
		r.trains++
		return r.refusal
	default:
		r.batches++
	}
	return r.err
}

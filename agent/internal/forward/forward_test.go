package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds what a test waits for; it is never the measure of anything.
const patience = time.Minute

// town is an overlay on the loopback: its names lead to listeners of the test.
type town struct {
	mu    sync.Mutex // guards names
	names map[string]string
}

func (o *town) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	switch host, _, _ := net.SplitHostPort(address); host {
	case "forbidden":
		return nil, fmt.Errorf("connect to %s: %w", address, ErrDenied)
	case "192.0.2.1":
		return nil, fmt.Errorf("connect to %s: %w", address, ErrElsewhere)
	}
	o.mu.Lock()
	to, known := o.names[address]
	o.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("connect to %s: %w", address, ErrNoName)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, to)
}

func (o *town) Listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", at.String())
}

func (o *town) ListenPacket(ctx context.Context, at netip.AddrPort) (net.PacketConn, error) {
	var config net.ListenConfig
	return config.ListenPacket(ctx, "udp", at.String())
}

// open starts a forwarder and returns the addresses of its listeners.
func open(t *testing.T, o *town, c Config) (*Forwarder, []string) {
	t.Helper()
	f, err := New(Options{Logger: slog.New(slog.DiscardHandler), Overlay: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := f.Set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	var at []string
	for _, s := range f.Status() {
		at = append(at, s.Listen.String())
	}
	return f, at
}

// echo answers what it is sent, until its peer has ended its direction.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				_, _ = io.Copy(connection, connection)
				_ = connection.Close()
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	return listener.Addr().String()
}

// echoPacket answers datagrams.
func echoPacket(t *testing.T) string {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(buf[:n], from)
		}
	})
	t.Cleanup(func() { _ = packets.Close(); running.Wait() })
	return packets.LocalAddr().String()
}

func connect(t *testing.T, network, to string) net.Conn {
	t.Helper()
	connection, err := net.Dial(network, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return connection
}

var free = netip.MustParseAddrPort("127.0.0.1:0")

func TestProxyCarriesWeb(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Connection") != "" || r.Header.Get("X-Forwarded-For") != "" {
			t.Errorf("headers %v", r.Header)
		}
		_, _ = io.WriteString(w, "hello "+r.Host)
	})
	plain, secure := httptest.NewServer(page), httptest.NewTLSServer(page)
	defer plain.Close()
	defer secure.Close()
	o := &town{names: map[string]string{"web:80": plain.Listener.Addr().String(), "example.com:443": secure.Listener.Addr().String()}}
	_, at := open(t, o, Config{Proxy: free})
	for _, scheme := range []string{"socks5", "http"} {
		transport := secure.Client().Transport.(*http.Transport).Clone()
		transport.Proxy = http.ProxyURL(&url.URL{Scheme: scheme, Host: at[0]})
		client := &http.Client{Transport: transport, Timeout: patience}
		for address, want := range map[string]string{"http://web/": "hello web", "https://example.com/": "hello example.com"} {
			answer, err := client.Get(address)
			if err != nil {
				t.Errorf("%s over %s: %v", address, scheme, err)
				continue
			}
			body, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if string(body) != want {
				t.Errorf("%s over %s: %q", address, scheme, body)
			}
		}
		transport.CloseIdleConnections()
	}
}

func TestProxySaysWhy(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	o := &town{names: map[string]string{"web:81": nobody}}
	_, at := open(t, o, Config{Proxy: free})
	for _, c := range []struct {
		to    string
		reply byte // RFC 1928, section 6
		code  int
	}{
		{"forbidden:80", 2, http.StatusForbidden},
		{"192.0.2.1:80", 2, http.StatusForbidden},
		{"unknown:80", 4, http.StatusBadGateway},
		{"web:81", 5, http.StatusBadGateway},
	} {
		host, port, _ := net.SplitHostPort(c.to)
		connection := connect(t, "tcp", at[0])
		request := append([]byte{5, 1, 0, 5, 1, 0, 3, byte(len(host))}, host...)
		if port == "81" {
			request = append(request, 0, 81)
		} else {
			request = append(request, 0, 80)
		}
		if _, err := connection.Write(request); err != nil {
			t.Fatal(err)
		}
		var answer [4]byte
		if _, err := io.ReadFull(connection, answer[:]); err != nil || answer[3] != c.reply {
			t.Errorf("SOCKS5 to %s: % x, %v; want the reply %d", c.to, answer, err, c.reply)
		}
		connection = connect(t, "tcp", at[0])
		_, _ = fmt.Fprintf(connection, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", c.to, c.to)
		said, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil || said.StatusCode != c.code {
			t.Errorf("CONNECT to %s: %v, %v; want %d", c.to, said, err, c.code)
		}
	}
	connection := connect(t, "tcp", at[0])
	_, _ = io.WriteString(connection, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	said, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil || said.StatusCode != http.StatusBadRequest {
		t.Errorf("a request to the proxy itself: %v, %v", said, err)
	}
}

func TestProxyCarriesDatagrams(t *testing.T) {
	o := &town{names: map[string]string{"dns:53": echoPacket(t)}}
	_, at := open(t, o, Config{Proxy: free})
	control := connect(t, "tcp", at[0])
	if _, err := control.Write([]byte{5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil { // UDP ASSOCIATE
		t.Fatal(err)
	}
	answer := make([]byte, 12)
	if _, err := io.ReadFull(control, answer); err != nil || answer[3] != 0 || answer[5] != 1 {
		t.Fatalf("answer % x, %v", answer, err)
	}
	relay := netip.AddrPortFrom(netip.AddrFrom4([4]byte(answer[6:10])), uint16(answer[10])<<8|uint16(answer[11]))
	packets := connect(t, "udp", relay.String())
	for _, text := range []string{"one", "two"} {
		if _, err := packets.Write(append([]byte{0, 0, 0, 3, 3, 'd', 'n', 's', 0, 53}, text...)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 200)
		n, err := packets.Read(buf)
		if err != nil || !strings.HasSuffix(string(buf[:n]), text) {
			t.Errorf("answer %q, %v", buf[:n], err)
		}
	}
}

func TestForwardsBothWays(t *testing.T) {
	streams, datagrams := echo(t), echoPacket(t)
	o := &town{names: map[string]string{"db:5432": streams, "dns:53": datagrams}}
	loopback := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	_, at := open(t, o, Config{
		Out:       []Rule{{Network: "tcp", Listen: free, Target: "db:5432"}},
		In:        []Rule{{Network: "tcp", Listen: free, Target: streams}},
		Addresses: loopback,
	})
	for _, to := range at {
		connection := connect(t, "tcp", to)
		if _, err := io.WriteString(connection, "question"); err != nil {
			t.Fatal(err)
		}
		// The end of one direction is passed on, and the other still carries.
		if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(connection)
		if err != nil || string(answer) != "question" {
			t.Errorf("through %s: %q, %v", to, answer, err)
		}
	}
}

func TestForwardsDatagramsOfSeveralSources(t *testing.T) {
	o := &town{names: map[string]string{"dns:53": echoPacket(t)}}
	port := freePort(t)
	f, _ := open(t, o, Config{Out: []Rule{{Network: "udp", Listen: port, Target: "dns:53"}}})
	for _, text := range []string{"one", "two", "three"} {
		source := connect(t, "udp", port.String())
		for range 2 {
			if _, err := io.WriteString(source, text); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			if n, err := source.Read(buf); err != nil || string(buf[:n]) != text {
				t.Errorf("answer %q, %v", buf[:n], err)
			}
		}
	}
	if got := f.Status()[0].Connections; got != 3 {
		t.Errorf("%d pairs of addresses, want 3", got)
	}
}

// freePort is a port that nobody has at this moment.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packets.Close() }()
	return packets.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestSetTouchesOnlyWhatDiffers(t *testing.T) {
	o := &town{names: map[string]string{"db:5432": echo(t)}}
	keep := Rule{Network: "tcp", Listen: free, Target: "db:5432"}
	goes := Rule{Network: "tcp", Listen: free, Target: "other:1"}
	f, at := open(t, o, Config{Out: []Rule{keep, goes}})
	connection := connect(t, "tcp", at[0])
	if _, err := io.WriteString(connection, "before"); err != nil {
		t.Fatal(err)
	}
	if err := f.Set(t.Context(), Config{Out: []Rule{keep}}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(connection, buf); err != nil || string(buf) != "before" {
		t.Errorf("the connection of a listener that stays: %q, %v", buf, err)
	}
	if _, err := net.Dial("tcp", at[1]); err == nil {
		t.Error("a listener that went still accepts")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := connection.Read(buf); err == nil {
		t.Error("a connection survives Close")
	}
}

func TestPortInUseLeavesTheOthers(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	f, err := New(Options{Logger: slog.New(slog.DiscardHandler), Overlay: &town{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c := Config{Proxy: taken.Addr().(*net.TCPAddr).AddrPort(), Out: []Rule{{Network: "tcp", Listen: free, Target: "db:1"}}}
	if err := f.Set(t.Context(), c); err == nil || !strings.Contains(err.Error(), "--proxy") {
		t.Errorf("error %v", err)
	}
	status := f.Status()
	if len(status) != 2 || status[0].Err == nil || status[1].Err != nil {
		t.Fatalf("status %+v", status)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Set(t.Context(), c); err != nil {
		t.Errorf("after the port became free: %v", err)
	}
}

func TestRules(t *testing.T) {
	for text, want := range map[string]Rule{
		"5432=db:5432":                {"tcp", netip.MustParseAddrPort("127.0.0.1:5432"), "db:5432"},
		"tcp:0.0.0.0:80=[fd00::1]:80": {"tcp", netip.MustParseAddrPort("0.0.0.0:80"), "[fd00::1]:80"},
		"udp:localhost:53=dns:53":     {"udp", netip.MustParseAddrPort("127.0.0.1:53"), "dns:53"},
	} {
		if got, err := ParseOut(text); err != nil || got != want {
			t.Errorf("out %q: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]Rule{
		"80=8080":              {"tcp", netip.AddrPortFrom(netip.Addr{}, 80), "127.0.0.1:8080"},
		"udp:53=127.0.0.1:553": {"udp", netip.AddrPortFrom(netip.Addr{}, 53), "127.0.0.1:553"},
		"22=printer.lan:22":    {"tcp", netip.AddrPortFrom(netip.Addr{}, 22), "printer.lan:22"},
	} {
		if got, err := ParseIn(text); err != nil || got != want {
			t.Errorf("in %q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "80", "=db:1", "80=", "80=db", "80=:1", "80=db:0", "80=db:70000", "host:80=db:1", "70000=db:1"} {
		if _, err := ParseOut(text); err == nil {
			t.Errorf("out %q is taken", text)
		}
	}
	for _, text := range []string{"", "80", "0=80", "127.0.0.1:80=80", "80=http", "80=a:b:c"} {
		if _, err := ParseIn(text); err == nil {
			t.Errorf("in %q is taken", text)
		}
	}
}

// FuzzProxy sends whatever to the proxy: it must end the connection or wait,
// and never reach what it may not.
func FuzzProxy(f *testing.F) {
	f.Add([]byte{5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0, 80})
	f.Add([]byte{5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{5, 255})
	f.Add([]byte("CONNECT 192.0.2.1:80 HTTP/1.1\r\n\r\n"))
	f.Add([]byte("GET http://192.0.2.1/ HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01"))
	f.Fuzz(func(t *testing.T, greeting []byte) {
		forwarder, at := open(t, &town{}, Config{Proxy: free})
		connection := connect(t, "tcp", at[0])
		_, _ = connection.Write(greeting)
		if half, ok := connection.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
		if _, err := io.Copy(io.Discard, connection); errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := forwarder.Close(); err != nil {
			t.Error(err)
		}
	})
}

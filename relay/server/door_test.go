package server

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/stun/v2"
	"github.com/pires/go-proxyproto"

	"github.com/wattlenet/wattle/internal/proxied"
)

// What speaks neither TURN nor WebSocket is answered as HTTP is, and costs no
// allocation.
func TestDoorAnswersOrdinaryRequests(t *testing.T) {
	relay := startRelay(t, nil)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: testRoots(t), ServerName: "relay.test"}}}
	t.Cleanup(client.CloseIdleConnections)
	for path, want := range map[string]int{WebSocketPath: http.StatusUpgradeRequired, "/": http.StatusNotFound} {
		answer, err := client.Get("https://" + relay.TLSAddrs()[0].String() + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Error(err)
		}
		if answer.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, answer.Status, want)
		}
	}
}

// A browser page of another origin gets no connection.
func TestForeignOriginIsRefused(t *testing.T) {
	relay := startRelay(t, nil)
	conn, err := tls.Dial("tcp", relay.TLSAddrs()[0].String(), &tls.Config{RootCAs: testRoots(t), ServerName: "relay.test"})
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, conn)
	_, err = io.WriteString(conn, "GET "+WebSocketPath+" HTTP/1.1\r\nHost: relay.test\r\nOrigin: https://elsewhere.test\r\n"+
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || !strings.HasPrefix(string(head), "HTTP/1.1 403") {
		t.Errorf("answer %q, %v", head, err)
	}
}

// A relay stops although strangers hold connections in every state.
func TestDoorClosesOnStrangers(t *testing.T) {
	relay, err := New(Config{
		Secret: testSecret, Listen: []string{"127.0.0.1:0"}, ListenTLS: []string{"127.0.0.1:0"}, TLS: testTLS(t), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	silent, err := net.Dial("tcp", relay.TLSAddrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, silent)
	for _, network := range []string{"tls", "tls without ALPN", "websocket"} {
		conn := dialStream(t, relay, network)
		t.Cleanup(func() { _ = conn.Close() }) // the relay has closed it
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the relay waits for strangers")
	}
}

// through opens a connection as a proxy on another address of the loopback
// does, which tells the address of its client.
func through(t *testing.T, proxy, client string, to netip.AddrPort) net.Conn {
	t.Helper()
	conn := connectFrom(t, proxy, to)
	header := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client)), net.TCPAddrFromAddrPort(to))
	if _, err := header.WriteTo(conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Clients of a trusted proxy are bounded each by itself, and the proxy is not.
func TestProxiedClientsAreBoundedEach(t *testing.T) {
	relay := startRelay(t, func(c *Config) { c.TrustedProxies = proxied.Trusted{netip.MustParsePrefix("127.0.0.9/32")} })
	at := relay.TLSAddrs()[0]
	for range maxHandshakes/crowdShare + 1 {
		through(t, "127.0.0.9", "198.51.100.7:4711", at)
	}
	for deadline := time.Now().Add(5 * time.Second); relay.Stats().RefusedStrangers == 0; {
		if time.Now().After(deadline) {
			t.Fatal("a client behind a proxy takes more than its share")
		}
		time.Sleep(time.Millisecond)
	}
	config := &tls.Config{RootCAs: testRoots(t), ServerName: "relay.test", NextProtos: []string{ALPN}}
	if err := tls.Client(through(t, "127.0.0.9", "198.51.100.8:4711", at), config).HandshakeContext(t.Context()); err != nil {
		t.Errorf("one client of a proxy keeps another out: %v", err)
	}
	if err := tls.Client(connectFrom(t, "127.0.0.9", at), config).HandshakeContext(t.Context()); err != nil {
		t.Errorf("the proxy may not come for itself: %v", err)
	}
	if err := tls.Client(through(t, "127.0.0.8", "198.51.100.8:4711", at), config).HandshakeContext(t.Context()); err == nil {
		t.Error("somebody else's word is taken")
	}
	if got := relay.Stats().RefusedStrangers; got != 1 {
		t.Errorf("%d connections were refused, want 1", got)
	}
}

// A stream counts for the client of a trusted proxy, and keeps the addresses of
// the network: what a proxy tells need not be unique.
func TestProxiedStreams(t *testing.T) {
	relay := startRelay(t, func(c *Config) { c.TrustedProxies = proxied.Trusted{netip.MustParsePrefix("127.0.0.1/32")} })
	client := netip.MustParseAddr("198.51.100.7")
	for _, network := range []string{"PROXY protocol", "X-Forwarded-For"} {
		t.Run(network, func(t *testing.T) {
			at := relay.TLSAddrs()[0]
			config := &tls.Config{RootCAs: testRoots(t), ServerName: "relay.test"}
			var conn net.Conn
			if network == "PROXY protocol" {
				config.NextProtos = []string{ALPN}
				secure := tls.Client(through(t, "127.0.0.1", "198.51.100.7:4711", at), config)
				if err := secure.HandshakeContext(t.Context()); err != nil {
					t.Fatal(err)
				}
				conn = secure
			} else {
				socket, _, err := websocket.Dial(t.Context(), "wss://"+at.String()+WebSocketPath, &websocket.DialOptions{
					HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: config}},
					HTTPHeader:   http.Header{"X-Forwarded-For": {client.String()}},
					Subprotocols: []string{WebSocketProtocol},
				})
				if err != nil {
					t.Fatal(err)
				}
				conn = websocket.NetConn(t.Context(), socket, websocket.MessageBinary)
			}
			binding, err := stun.Build(stun.TransactionID, stun.BindingRequest)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(binding.Raw); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, maxMessage)
			n, err := conn.Read(answer)
			if err != nil {
				t.Fatal(err)
			}
			m := &stun.Message{Raw: answer[:n]}
			var mapped stun.XORMappedAddress
			if err := m.Decode(); err != nil {
				t.Fatal(err)
			}
			if err := mapped.GetFrom(m); err != nil || !mapped.IP.IsLoopback() {
				t.Errorf("the stream comes from %s, %v", mapped, err)
			}
			if sources := sourcesOf(relay); !slices.Contains(sources, client) {
				t.Errorf("streams count for %v", sources)
			}
			_ = conn.Close() // the relay hears of it in its own time
			for deadline := time.Now().Add(5 * time.Second); len(sourcesOf(relay)) > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("a stream that has ended counts on")
				}
			}
		})
	}
}

// sourcesOf are those whom streams without an allocation count for.
func sourcesOf(relay *Server) (sources []netip.Addr) {
	for _, l := range relay.tcp {
		l.strangers.mu.Lock()
		for source := range l.strangers.sources {
			sources = append(sources, source)
		}
		l.strangers.mu.Unlock()
	}
	return sources
}

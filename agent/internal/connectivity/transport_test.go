package connectivity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/wattlenet/wattle/relay/server"
)

// newCertificate makes one for loopback that is its own authority.
func newCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// startSecureRelay runs a relay of ours and returns its TLS address and who
// vouches for it.
func startSecureRelay(t *testing.T) (at netip.AddrPort, secret server.Secret, roots *x509.CertPool) {
	t.Helper()
	certificate, roots := newCertificate(t)
	secret = server.Secret("the secret of a test")
	relay, err := server.New(server.Config{
		Secret: secret, Listen: []string{"127.0.0.1:0"}, ListenTLS: []string{"127.0.0.1:0"}, RelayAddress: netip.MustParseAddr("127.0.0.1"),
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return relay.TLSAddrs()[0], secret, roots
}

func TestTransportsOverTLS(t *testing.T) {
	at, secret, roots := startSecureRelay(t)
	for name, url := range map[string]string{
		"tls":       "turns:" + at.String() + "?transport=tcp",
		"websocket": "wss://" + at.String() + server.WebSocketPath,
	} {
		t.Run(name, func(t *testing.T) {
			credential := server.NewCredential(secret, server.Holder{Account: "test", Peer: "any"}, time.Now().Add(time.Hour))
			relay := []Relay{{
				URLs: []string{url}, Username: credential.Username, Password: credential.Password,
				TLS: func(string) (*tls.Config, error) { return &tls.Config{RootCAs: roots}, nil },
			}}
			w := newWire()
			a := newMachine(t, w, "a", "10.77.0.1", machineOptions{force: PathRelayed, relay: relay})
			b := newMachine(t, w, "b", "10.77.0.2", machineOptions{force: PathRelayed, relay: relay})
			introduce(t, a, b)
			t.Logf("first ping: %v", a.ping(t, b))
			if s := a.paths.RelayStatus(); s.Transport != name {
				t.Errorf("relay %+v, want %s", s, name)
			}
		})
	}
}

// Who cannot prove to be the relay gets no credential.
func TestUntrustedRelayIsRefused(t *testing.T) {
	at, _, _ := startSecureRelay(t)
	_, others := newCertificate(t)
	for _, text := range []string{"turns:" + at.String() + "?transport=tcp", "wss://" + at.String() + server.WebSocketPath} {
		url, ok, err := parseRelayURL(text, Relay{TLS: func(string) (*tls.Config, error) { return &tls.Config{RootCAs: others}, nil }})
		if err != nil || !ok {
			t.Fatal(err)
		}
		conn, _, err := url.dial(t.Context(), &net.Dialer{})
		if err == nil {
			t.Errorf("%s was trusted", text)
			_ = conn.Close() // it should not be there
		}
	}
}

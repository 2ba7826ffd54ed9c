package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/generated/sdk"
)

// authority makes a certificate authority and a server certificate for
// 127.0.0.1 of the given life.
func authority(t *testing.T, from, to time.Time) (pin string, chain tls.Certificate) {
	t.Helper()
	make := func(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, parentKey = template, key
		}
		raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		return made, key
	}
	root, rootKey := make(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	leaf, leafKey := make(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: from, NotAfter: to,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root, rootKey)
	return sdk.Pin(root), tls.Certificate{Certificate: [][]byte{leaf.Raw, root.Raw}, PrivateKey: leafKey, Leaf: leaf}
}

func TestPin(t *testing.T) {
	now := time.Now()
	pin, chain := authority(t, now.Add(-time.Hour), now.Add(time.Hour))
	_, later := authority(t, now.Add(time.Hour), now.Add(2*time.Hour))
	laterPin := sdk.Pin(mustParse(t, later.Certificate[1]))
	for name, test := range map[string]struct {
		chain tls.Certificate
		pin   string
		host  string
		pins  bool // refused for its pin
		fails bool
	}{
		"right pin":                           {chain: chain, pin: pin, host: "127.0.0.1"},
		"wrong pin":                           {chain: chain, pin: laterPin, host: "127.0.0.1", pins: true, fails: true},
		"right pin, other name":               {chain: chain, pin: pin, host: "localhost", fails: true},
		"a clock in the past still gets in":   {chain: later, pin: laterPin, host: "127.0.0.1"},
		"no pin, an authority nobody knows":   {chain: chain, host: "127.0.0.1", fails: true},
		"pin of the server's own certificate": {chain: chain, pin: sdk.Pin(chain.Leaf), host: "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{test.chain}}
			server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			server.StartTLS()
			defer server.Close()
			carrier, err := newTransport("https://"+test.host, test.pin, &clock{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer carrier.CloseIdleConnections()
			url := strings.Replace(server.URL, "127.0.0.1", test.host, 1)
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := carrier.RoundTrip(request)
			if err == nil {
				_ = answer.Body.Close()
			}
			if (err != nil) != test.fails {
				t.Fatalf("error %v, want one: %v", err, test.fails)
			}
			var pinned *sdk.PinError
			if errors.As(err, &pinned) != test.pins {
				t.Errorf("error %v, want one about the pin: %v", err, test.pins)
			}
		})
	}
}

func mustParse(t *testing.T, raw []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBadAddressesAreNamed(t *testing.T) {
	for _, i := range []identity.Identity{
		{ManagementURL: "mesh.example"},
		{ManagementURL: "ftp://mesh.example"},
		{ManagementURL: "https://mesh.example", CAPin: "sha256:00"},
		{ManagementURL: "http://mesh.example", CAPin: "sha256:" + strings.Repeat("0", 64)},
	} {
		if _, err := NewClient(ClientConfig{Logger: slog.New(slog.DiscardHandler), UserAgent: "test", Identity: &i}); err == nil {
			t.Errorf("%q with pin %q was taken", i.ManagementURL, i.CAPin)
		}
	}
}

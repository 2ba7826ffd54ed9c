package start

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/seal/token"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/program"
)

func defaults(t *testing.T) Config {
	t.Helper()
	var config Config
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.Flags(flags)
	config.OwnerFlags(flags)
	config.Logger = program.Quiet()
	return config
}

func TestConfigCheck(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		text   string // of the usage error; empty when it is right
	}{
		{"defaults", func(*Config) {}, ""},
		{"plain HTTP on loopback", func(c *Config) { c.Listen, c.PublicURL = "127.0.0.1:0", "http://127.0.0.1:8080" }, ""},
		{"plain HTTP in so many words", func(c *Config) { c.InsecureHTTP = true }, ""},
		{"TLS ends before us", func(c *Config) { c.InsecureHTTP, c.PublicURL = true, "https://wattle.example" }, ""},
		{"plain HTTP on every address", func(c *Config) { c.PublicURL = "http://wattle.example:8443" }, "--insecure-http"},
		{"plain HTTP with a certificate", func(c *Config) {
			c.PublicURL, c.TLSCert, c.TLSKey, c.Listen = "http://localhost:1", "a", "b", "localhost:1"
		}, "https:"},
		{"certificate without key", func(c *Config) { c.TLSCert = "a" }, "belong together"},
		{"certificate and insecure", func(c *Config) { c.TLSCert, c.TLSKey, c.InsecureHTTP = "a", "b", true }, "contradict"},
		{"no port", func(c *Config) { c.Listen = "localhost" }, "--listen"},
		{"relay without port", func(c *Config) { c.RelayListen = "3478" }, "--relay-listen"},
		{"relay address by name", func(c *Config) { c.RelayAddress = "relay.example" }, "--relay-address"},
		{"URL without scheme", func(c *Config) { c.PublicURL = "wattle.example" }, "--public-url"},
		{"URL with a path", func(c *Config) { c.PublicURL = "https://wattle.example/mesh" }, "--public-url"},
		{"URL with a password", func(c *Config) { c.PublicURL = "https://me:secret@wattle.example" }, "--public-url"},
	}
	for _, test := range tests {
		config := defaults(t)
		test.change(&config)
		err := config.check()
		if (err == nil) != (test.text == "") {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if err != nil && (program.Code(err) != program.ExitUsage || !strings.Contains(err.Error(), test.text)) {
			t.Errorf("%s: code %d, %q lacks %q", test.name, program.Code(err), err, test.text)
		}
	}
}

func TestPublicURL(t *testing.T) {
	tests := []struct{ listen, public, bound, want string }{
		{"127.0.0.1:0", "", "127.0.0.1:4711", "https://127.0.0.1:4711"},
		{"localhost:8443", "", "127.0.0.1:8443", "https://localhost:8443"},
		{"[::1]:8443", "", "[::1]:8443", "https://[::1]:8443"},
		{":8443", "https://wattle.example/", "[::]:8443", "https://wattle.example"},
		{":8443", "", "[::]:8443", "https://" + ownAddress() + ":8443"},
	}
	for _, test := range tests {
		config := Config{Listen: test.listen, PublicURL: test.public}
		got, err := config.publicURL(netip.MustParseAddrPort(test.bound))
		if err != nil || got.String() != test.want {
			t.Errorf("%+v: %v, %v", test, got, err)
		}
	}
}

func TestCertificateCoversEveryWayIn(t *testing.T) {
	names := certificateNames(&url.URL{Host: "Wattle.example:8443"}, "192.0.2.1:8443")
	for _, want := range []string{"Wattle.example", "192.0.2.1", "localhost", "127.0.0.1", "::1"} {
		if !slices.Contains(names, want) {
			t.Errorf("%v lacks %s", names, want)
		}
	}
	if names := certificateNames(&url.URL{Host: "localhost:1"}, "0.0.0.0:1"); slices.Contains(names, "0.0.0.0") || names[0] != "localhost" || slices.Contains(names[1:], "localhost") {
		t.Errorf("%v", names)
	}
}

func TestRelayURLs(t *testing.T) {
	got := relayURLs("2001:db8::1", "3478")
	want := []string{"turn:[2001:db8::1]:3478?transport=udp", "turn:[2001:db8::1]:3478?transport=tcp", "stun:[2001:db8::1]:3478"}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func openTestFolder(t *testing.T, path string) *dataFolder {
	t.Helper()
	f, err := openFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestFolderIsPrivateAndUsedByOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "inside")
	f := openTestFolder(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := openFolder(path); err == nil || !strings.Contains(err.Error(), "another wattle-server") {
		t.Errorf("second use: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	openTestFolder(t, path)
}

func TestUnwritableFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(filepath.Join(file, "data")); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("%v", err)
	}
}

func TestIssuerStaysWhenThePublicURLChanges(t *testing.T) {
	f := openTestFolder(t, t.TempDir())
	for _, host := range []string{"one.example", "two.example"} {
		issuer, err := f.issuer(&url.URL{Scheme: "https", Host: host})
		if err != nil || issuer != "https://one.example" {
			t.Errorf("%s: %q, %v", host, issuer, err)
		}
	}
}

func TestProfileOfAnotherServerStays(t *testing.T) {
	here := &url.URL{Scheme: "https", Host: "192.0.2.1:8443"}
	tests := []struct {
		name     string
		existing string
		occupied bool
	}{
		{"none", "", false},
		{"of this server", `{"url":"https://192.0.2.1:8443","token":"wtp_old","ca_pin":"sha256:old"}`, false},
		{"of this server under another address", `{"url":"https://10.0.0.1:8443","token":"wtp_old","ca_pin":"sha256:ours"}`, false},
		{"of another server", `{"url":"https://other.example","token":"wtp_other"}`, true},
		{"not a profile", `something else`, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "wattle", "credentials")
			if test.existing != "" {
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(test.existing), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			place, err := placeProfile(path, t.TempDir(), here, "sha256:ours")
			if err != nil {
				t.Fatal(err)
			}
			if (place.occupied != "") != test.occupied || (place.path != path) != test.occupied {
				t.Errorf("%+v", place)
			}
			profile := sdk.Profile{URL: here.String(), Token: "wtp_new", CAPin: "sha256:ours"}
			if err := profile.Write(place.path); err != nil {
				t.Fatal(err)
			}
			if again, err := placeProfile(path, t.TempDir(), here, "sha256:ours"); err != nil || again.path != place.path {
				t.Errorf("second start: %+v, %v", again, err)
			}
			kept, err := os.ReadFile(path)
			if err != nil || test.occupied && string(kept) != test.existing {
				t.Errorf("the other profile became %q, %v", kept, err)
			}
		})
	}
}

// A listenerAt is a listener that only has an address.
type listenerAt struct {
	net.Listener
	address string
}

func (l listenerAt) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(l.address))
}

func TestSetupIsGuardedWhereOthersCouldComeFirst(t *testing.T) {
	for address, guarded := range map[string]bool{
		"127.0.0.1:8443": false, "[::1]:8443": false, "[::]:8443": true, "0.0.0.0:8443": true, "192.0.2.1:8443": true,
	} {
		i := &Installation{listener: listenerAt{address: address}}
		if digest := i.guardSetup(); (digest != nil) != guarded || guarded && i.setup.Sum() != *digest {
			t.Errorf("%s: %v", address, digest)
		}
	}
}

func TestSetupOverTheAPIAsksForTheToken(t *testing.T) {
	folder, secret := t.TempDir(), token.New(auth.SetupTokenPrefix)
	digest := secret.Sum()
	plane, err := NewPlane(t.Context(), PlaneConfig{
		Database: filepath.Join(folder, databaseFile), MasterKey: filepath.Join(folder, masterKeyFile),
		Issuer: "https://wattle.example", SetupToken: &digest, Logger: program.Quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plane.Close() })
	for _, test := range []struct {
		header string
		status int
	}{{"", 401}, {"Token wto_wrong", 401}, {"Token " + secret.Reveal(), 200}, {"Token " + secret.Reveal(), 412}} {
		body := `{"email":"owner@example.org","password":"correct horse battery","name":"o"}`
		request := httptest.NewRequest(http.MethodPost, "/api/setup", strings.NewReader(body))
		request.Header.Set("Authorization", test.header)
		recorder := httptest.NewRecorder()
		plane.Handler.ServeHTTP(recorder, request)
		if recorder.Code != test.status {
			t.Errorf("%.10q: %d %s", test.header, recorder.Code, recorder.Body)
		}
	}
}

// Reading goes on from memory when the database is gone; readiness must not.
func TestReadyMeansThatTheStoreAnswers(t *testing.T) {
	folder := t.TempDir()
	plane, err := NewPlane(t.Context(), PlaneConfig{
		Database: filepath.Join(folder, databaseFile), MasterKey: filepath.Join(folder, masterKeyFile), Issuer: "https://wattle.example", Logger: program.Quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		recorder := httptest.NewRecorder()
		plane.Handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody))
		if recorder.Code != want {
			t.Errorf("%d %s, want %d", recorder.Code, recorder.Body, want)
		}
		if err := plane.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/program"
)

func openAuthority(t *testing.T, folder string) *Authority {
	t.Helper()
	authority, err := OpenAuthority(folder)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func TestAuthorityStaysTheSame(t *testing.T) {
	folder := t.TempDir()
	first, second := openAuthority(t, folder), openAuthority(t, folder)
	if first.Pin() != second.Pin() {
		t.Errorf("pin changed from %s to %s", first.Pin(), second.Pin())
	}
	if want := sdk.Pin(first.certificate); first.Pin() != want {
		t.Errorf("pin %s, clients compute %s", first.Pin(), want)
	}
	info, err := os.Stat(filepath.Join(folder, authorityKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
}

func TestAuthorityWithoutItsKeyIsAnError(t *testing.T) {
	for name, damage := range map[string]func(key, certificate string) error{
		"no key":       func(key, _ string) error { return os.Remove(key) },
		"a broken key": func(key, _ string) error { return os.WriteFile(key, []byte("garbage"), 0o600) },
		"a broken key and nothing else": func(key, certificate string) error {
			return errors.Join(os.WriteFile(key, nil, 0o600), os.Remove(certificate))
		},
		"a certificate in the key's place": func(key, certificate string) error { return os.Rename(certificate, key) },
	} {
		folder := t.TempDir()
		openAuthority(t, folder)
		if err := damage(filepath.Join(folder, authorityKeyFile), filepath.Join(folder, authorityCertificateFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenAuthority(folder); err == nil || !strings.Contains(err.Error(), "restore") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The key is written first, so it may be all that is there. Who knows the pin or
// the former certificate trusts what is made of it.
func TestKeyAloneKeepsPinAndTrust(t *testing.T) {
	folder := t.TempDir()
	first := openAuthority(t, folder)
	if err := os.Remove(filepath.Join(folder, authorityCertificateFile)); err != nil {
		t.Fatal(err)
	}
	second := openAuthority(t, folder)
	if first.Pin() != second.Pin() || first.certificate.Equal(second.certificate) {
		t.Errorf("pins %s and %s", first.Pin(), second.Pin())
	}
	source, err := second.Issue([]string{"wattle.example"}, program.Quiet())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handshake(t, source.TLS(), first.certificate, "wattle.example"); err != nil {
		t.Errorf("who has the former certificate: %v", err)
	}
}

// handshake returns the certificates that a server with this configuration
// shows, and the error of a client that trusts only root.
func handshake(t *testing.T, server *tls.Config, root *x509.Certificate, name string) ([]*x509.Certificate, error) {
	t.Helper()
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	defer func() { _ = far.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Server(far, server).HandshakeContext(t.Context())
	}()
	roots := x509.NewCertPool()
	roots.AddCert(root)
	client := tls.Client(near, &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS13})
	err := client.HandshakeContext(t.Context())
	_ = near.Close()
	<-done
	return client.ConnectionState().PeerCertificates, err
}

func TestLeafProvesEachNameAndNoOther(t *testing.T) {
	authority := openAuthority(t, t.TempDir())
	source, err := authority.Issue([]string{"wattle.example", "192.0.2.1", "2001:db8::1"}, program.Quiet())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wattle.example", "192.0.2.1", "2001:db8::1"} {
		chain, err := handshake(t, source.TLS(), authority.certificate, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(chain) != 2 || Pin(chain[1]) != source.Pin() {
			t.Errorf("%s: the pinned authority is not in the chain of %d", name, len(chain))
		}
	}
	if _, err := handshake(t, source.TLS(), authority.certificate, "evil.example"); err == nil {
		t.Error("another name was accepted")
	}
	other := openAuthority(t, t.TempDir())
	if _, err := handshake(t, source.TLS(), other.certificate, "wattle.example"); err == nil {
		t.Error("another authority was accepted")
	}
}

func TestLeafIsRenewedBeforeItEnds(t *testing.T) {
	source, err := openAuthority(t, t.TempDir()).Issue([]string{"wattle.example"}, program.Quiet())
	if err != nil {
		t.Fatal(err)
	}
	at := func(days int) *x509.Certificate {
		t.Helper()
		c, err := source.certificate(time.Now().Add(time.Duration(days) * 24 * time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf
	}
	first := at(0)
	if again := at(59); again.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("renewed too early")
	}
	renewed := at(61)
	if renewed.SerialNumber.Cmp(first.SerialNumber) == 0 || !renewed.NotAfter.After(first.NotAfter) {
		t.Error("not renewed when a third of its life was left")
	}
}

func writePair(t *testing.T, folder string, certificate *tls.Certificate, key []byte) (string, string) {
	t.Helper()
	certificatePath, keyPath := filepath.Join(folder, "tls.pem"), filepath.Join(folder, "tls.key")
	var chain []byte
	for _, der := range certificate.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	for path, text := range map[string][]byte{certificatePath: chain, keyPath: key} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificatePath, keyPath
}

func TestGivenFilesArePinnedByTheirAuthority(t *testing.T) {
	authority := openAuthority(t, t.TempDir())
	leaf, err := authority.issue([]string{"given.example"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	chain, key := writePair(t, t.TempDir(), leaf, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	source, err := Files(chain, key, program.Quiet())
	if err != nil {
		t.Fatal(err)
	}
	if source.Pin() != authority.Pin() {
		t.Errorf("pin %s, want the authority at the end of the chain", source.Pin())
	}
}

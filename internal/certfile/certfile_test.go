package certfile_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattlenet/wattle/internal/certfile"
	"github.com/wattlenet/wattle/internal/program"
)

// A pair is where the files of a test are.
type pair struct{ chain, key string }

func newPair(t *testing.T) pair {
	folder := t.TempDir()
	return pair{filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")}
}

// write makes a certificate with a name that ends at a time. The files bear the
// time at.
func (p pair) write(t *testing.T, name string, ends, at time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, p.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), at)
	put(t, p.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), at)
}

func put(t *testing.T, path string, text []byte, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func served(files *certfile.Files) string { return files.Current().Leaf.Subject.CommonName }

func TestFilesAreReloadedAndBrokenOnesIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, now := newPair(t), time.Now()
		p.write(t, "first", now.Add(time.Hour), now)
		files, err := certfile.Open(p.chain, p.key, program.Quiet())
		if err != nil {
			t.Fatal(err)
		}
		p.write(t, "second", now.Add(time.Hour), now.Add(time.Second))
		if got := served(files); got != "first" {
			t.Errorf("%s is served: the files are looked at for each handshake", got)
		}
		time.Sleep(time.Minute)
		if got := served(files); got != "second" {
			t.Errorf("%s is served after a minute", got)
		}
		put(t, p.key, []byte("garbage"), now.Add(2*time.Second))
		time.Sleep(time.Minute)
		if got := served(files); got != "second" {
			t.Errorf("%s is served while the files are broken", got)
		}
		p.write(t, "third", now.Add(time.Hour), now.Add(3*time.Second))
		time.Sleep(time.Minute)
		if got := served(files); got != "third" {
			t.Errorf("%s is served after the files were mended", got)
		}
	})
}

func TestOpen(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		damage func(t *testing.T, p pair)
		says   string // of the error, or of the log when it opens all the same
		opens  bool
	}{
		"no certificate": {func(t *testing.T, p pair) { remove(t, p.chain) }, "cert.pem", false},
		"no key":         {func(t *testing.T, p pair) { remove(t, p.key) }, "key.pem", false},
		"garbage":        {func(t *testing.T, p pair) { put(t, p.chain, []byte("garbage"), now) }, "PEM", false},
		"another key": {func(t *testing.T, p pair) {
			other := newPair(t)
			other.write(t, "other", now.Add(time.Hour), now)
			if err := os.Rename(other.key, p.key); err != nil {
				t.Fatal(err)
			}
		}, "does not match", false},
		"expired": {func(t *testing.T, p pair) { p.write(t, "old", now.Add(-time.Hour), now) }, "has expired", true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.write(t, "good", now.Add(time.Hour), now)
			test.damage(t, p)
			var log bytes.Buffer
			_, err := certfile.Open(p.chain, p.key, slog.New(slog.NewTextHandler(&log, nil)))
			if told := log.String(); test.opens && (err != nil || !strings.Contains(told, test.says)) {
				t.Errorf("%v, and it logs %q", err, told)
			}
			if !test.opens && (err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), p.key)) {
				t.Errorf("%v, want an error that names the files and says %q", err, test.says)
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

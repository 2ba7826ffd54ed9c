// Package certificate proves the server to its clients by TLS.
//
// Without a certificate of its own choice an installation has a private
// authority, whose key hash (the pin) travels with every credential:
//
//	ca.pem, ca.key ── signs ──> leaf (90 days, in memory) ── TLS ──> client
//	   └ pin = sha256(SubjectPublicKeyInfo) ──> credentials profile, --ca-pin
package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/wattlenet/wattle/internal/folder"
)

// Constants we chose.
const (
	// authorityLife is long because every pin in the field ends with it.
	authorityLife = 10 * 365 * 24 * time.Hour

	// leafLife is short because a leaf costs nothing; a third of it is left
	// when the next one is made.
	leafLife = 90 * 24 * time.Hour

	// backdate lets clients in whose clocks are behind.
	backdate = 24 * time.Hour
)

// The files of an authority inside its folder.
const (
	authorityCertificateFile = "ca.pem"
	authorityKeyFile         = "ca.key"
)

// An Authority signs the certificates of one installation.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// OpenAuthority reads the authority in dir, and makes one when there is none. A
// certificate without its key is an error: a new key would break every pin. A key
// without its certificate, as the end of a power supply may leave it, gets another
// of the same name and pin.
func OpenAuthority(dir string) (*Authority, error) {
	certificatePath, keyPath := filepath.Join(dir, authorityCertificateFile), filepath.Join(dir, authorityKeyFile)
	pair, err := tls.LoadX509KeyPair(certificatePath, keyPath)
	switch {
	case err == nil:
		return authorityFrom(pair, certificatePath)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, unreadable(dir, err)
	}
	if _, err := os.Stat(certificatePath); err == nil {
		return nil, fmt.Errorf("of the certificate authority in %s only %s is left; restore %s, or remove the other for a new authority with a new pin",
			dir, authorityCertificateFile, authorityKeyFile)
	}
	key, err := readKey(keyPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if key, err = newKey(keyPath); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, unreadable(dir, err)
	}
	authority, err := newAuthority(key, time.Now())
	if err != nil {
		return nil, err
	}
	if err := folder.Replace(certificatePath, authority.PEM(), 0o644); err != nil {
		return nil, fmt.Errorf("store the certificate authority: %w", err)
	}
	return authority, nil
}

func unreadable(dir string, err error) error {
	return fmt.Errorf("the certificate authority in %s cannot be read: %w; restore %s and %s from a backup, or remove both for a new authority with a new pin",
		dir, err, authorityCertificateFile, authorityKeyFile)
}

func authorityFrom(pair tls.Certificate, path string) (*Authority, error) {
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s is not a certificate authority with an ECDSA key", path)
	}
	return &Authority{certificate: pair.Leaf, key: key}, nil
}

// readKey reads a key that newKey has stored.
func readKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the folder is the operator's choice
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key in PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds no ECDSA key", path)
	}
	return key, nil
}

// newKey makes a key and returns when it is on disk: pins that nobody can prove any
// more would keep every machine out.
func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the certificate authority: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key of the certificate authority: %w", err)
	}
	if err := folder.Replace(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("store the certificate authority: %w", err)
	}
	return key, nil
}

// newAuthority signs the certificate of a key. Its name follows from the key.
func newAuthority(key *ecdsa.PrivateKey, now time.Time) (*Authority, error) {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode the key of the certificate authority: %w", err)
	}
	name := sha256.Sum256(public)
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Wattle installation " + hex.EncodeToString(name[:4])},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the certificate authority: %w", err)
	}
	return &Authority{certificate: certificate, key: key}, nil
}

// PEM returns the certificate of the authority.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// Pin returns the pin of the authority.
func (a *Authority) Pin() string { return Pin(a.certificate) }

// Pin is "sha256:" and the hexadecimal SHA-256 of the certificate's
// SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7).
func Pin(certificate *x509.Certificate) string {
	digest := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(digest[:])
}

// issue signs a new server certificate for names, which may be host names and
// addresses. The chain holds the authority too, since that is what is pinned.
func (a *Authority) issue(names []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the server certificate: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "wattle-server"},
		NotBefore:    now.Add(-backdate),
		NotAfter:     earlier(now.Add(leafLife), a.certificate.NotAfter),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if address, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, address.Unmap().WithZone("").AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the server certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sign the server certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// newSerial returns 16 random bytes (RFC 5280, section 4.1.2.2 allows 20).
func newSerial() (*big.Int, error) {
	var bytes [16]byte
	if _, err := rand.Read(bytes[:]); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	bytes[0] = bytes[0]&0x7f | 0x40 // positive and never short
	return new(big.Int).SetBytes(bytes[:]), nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

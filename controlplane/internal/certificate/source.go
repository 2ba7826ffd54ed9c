package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/wattlenet/wattle/internal/program"
)

// Issued is a source of server certificates that an Authority signs. A leaf is
// replaced when a third of its life is left, at the next handshake, so that no
// timer has to run.
type Issued struct {
	authority *Authority
	names     []string
	logger    *slog.Logger

	mu      sync.Mutex // guards current and renewAt
	current *tls.Certificate
	renewAt time.Time
}

// Issue makes the first certificate for names and returns its source.
func (a *Authority) Issue(names []string, logger *slog.Logger) (*Issued, error) {
	if len(names) == 0 {
		return nil, errors.New("certificate: no names: no client could accept it")
	}
	source := &Issued{authority: a, names: slices.Clone(names), logger: logger}
	_, err := source.certificate(time.Now())
	return source, err
}

// TLS returns the configuration of a server with this certificate.
func (s *Issued) TLS() *tls.Config {
	return serverTLS(func() (*tls.Certificate, error) { return s.certificate(time.Now()) })
}

// Pin returns the pin of the authority.
func (s *Issued) Pin() string { return s.authority.Pin() }

func (s *Issued) certificate(now time.Time) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && now.Before(s.renewAt) {
		return s.current, nil
	}
	next, err := s.authority.issue(s.names, now)
	if err != nil {
		return nil, err
	}
	if s.current != nil {
		s.logger.Info("server certificate renewed", "expires", next.Leaf.NotAfter)
	}
	s.current, s.renewAt = next, now.Add(next.Leaf.NotAfter.Sub(now)*2/3)
	return next, nil
}

// reloadEvery is how often given files are looked at while they are used.
const reloadEvery = time.Minute

// Given is a source of a certificate in files that somebody else renews. A new
// pair is taken over while running; a broken one is logged and the old one kept.
type Given struct {
	certificatePath, keyPath string
	logger                   *slog.Logger

	mu      sync.Mutex // guards the fields below
	current *tls.Certificate
	changed time.Time // modification of the newer file
	looked  time.Time
}

// Files reads a certificate chain and its key in PEM.
func Files(certificatePath, keyPath string, logger *slog.Logger) (*Given, error) {
	source := &Given{certificatePath: certificatePath, keyPath: keyPath, logger: logger}
	if err := source.load(); err != nil {
		return nil, fmt.Errorf("the given certificate cannot be used: %w", err)
	}
	source.looked = time.Now()
	return source, nil
}

// TLS returns the configuration of a server with this certificate.
func (s *Given) TLS() *tls.Config {
	return serverTLS(func() (*tls.Certificate, error) { return s.certificate(time.Now()), nil })
}

// Pin returns the pin of the last certificate of the chain when it is its own
// authority, else "": a chain to a public authority needs none.
func (s *Given) Pin() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	chain := s.current.Certificate
	last, err := x509.ParseCertificate(chain[len(chain)-1])
	if err != nil || last.CheckSignature(last.SignatureAlgorithm, last.RawTBSCertificate, last.Signature) != nil {
		return ""
	}
	return Pin(last)
}

func (s *Given) certificate(now time.Time) *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.looked) >= reloadEvery {
		s.looked = now
		if modified, err := s.modified(); err != nil || !modified.Equal(s.changed) {
			s.reload()
		}
	}
	return s.current
}

func (s *Given) reload() {
	if err := s.load(); err != nil {
		s.logger.Warn("new server certificate cannot be used, the old one stays", program.KeyError, err)
		return
	}
	s.logger.Info("server certificate reloaded", "expires", s.current.Leaf.NotAfter)
}

func (s *Given) load() error {
	modified, err := s.modified()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(s.certificatePath, s.keyPath)
	if err != nil {
		return err
	}
	s.current, s.changed = &pair, modified
	return nil
}

// modified returns when the newer of the two files was written.
func (s *Given) modified() (time.Time, error) {
	var newest time.Time
	for _, path := range []string{s.certificatePath, s.keyPath} {
		info, err := os.Stat(path)
		if err != nil {
			return time.Time{}, err
		}
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest, nil
}

func serverTLS(certificate func() (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return certificate()
		},
	}
}

package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/wattlenet/wattle/internal/certfile"
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

// Given is a certificate that somebody else renews in files.
type Given struct{ *certfile.Files }

// Files reads a certificate chain and its key in PEM.
func Files(certificatePath, keyPath string, logger *slog.Logger) (*Given, error) {
	files, err := certfile.Open(certificatePath, keyPath, logger)
	if err != nil {
		return nil, err
	}
	return &Given{files}, nil
}

// TLS returns the configuration of a server with this certificate.
func (s *Given) TLS() *tls.Config {
	return serverTLS(func() (*tls.Certificate, error) { return s.Current(), nil })
}

// Pin returns the pin of the last certificate of the chain when it is its own
// authority, else "": a chain to a public authority needs none.
func (s *Given) Pin() string {
	chain := s.Current().Certificate
	last, err := x509.ParseCertificate(chain[len(chain)-1])
	if err != nil || last.CheckSignature(last.SignatureAlgorithm, last.RawTBSCertificate, last.Signature) != nil {
		return ""
	}
	return Pin(last)
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

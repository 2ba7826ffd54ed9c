// Package certfile serves a certificate that somebody else renews in files.
package certfile

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/wattlenet/wattle/internal/program"
)

// lookAgain is how often the files are looked at while they are used.
const lookAgain = time.Minute

// Files are a certificate chain and its key in PEM. A new pair is taken over
// while the program runs; a broken one is logged and the old one kept.
type Files struct {
	chain, key string
	logger     *slog.Logger

	mu      sync.Mutex // guards the fields below
	current *tls.Certificate
	changed time.Time // modification of the newer file
	looked  time.Time
}

// Open reads both files. A certificate that has expired is served, and logged:
// what needs no certificate goes on.
func Open(chain, key string, logger *slog.Logger) (*Files, error) {
	f := &Files{chain: chain, key: key, logger: logger}
	if err := f.load(time.Now()); err != nil {
		return nil, fmt.Errorf("the certificate in %s with the key in %s cannot be used: %w", chain, key, err)
	}
	return f, nil
}

// Current returns the certificate of the moment.
func (f *Files) Current() *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= lookAgain {
		if modified, err := f.modified(); err != nil || !modified.Equal(f.changed) {
			f.reload(now)
		}
		f.looked = now
	}
	return f.current
}

// Run reads the files again at each SIGHUP until ctx is done; without it a new
// certificate is taken over within a minute.
func (f *Files) Run(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-hangup:
			f.mu.Lock()
			f.reload(time.Now())
			f.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// reload is called with mu held.
func (f *Files) reload(now time.Time) {
	if err := f.load(now); err != nil {
		f.logger.Warn("new certificate cannot be used, the old one stays", program.KeyPath, f.chain, program.KeyError, err)
		return
	}
	f.logger.Info("certificate reloaded", program.KeyPath, f.chain, "expires", f.current.Leaf.NotAfter)
}

func (f *Files) load(now time.Time) error {
	modified, err := f.modified()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(f.chain, f.key)
	if err != nil {
		return err
	}
	f.current, f.changed, f.looked = &pair, modified, now
	if ends := pair.Leaf.NotAfter; now.After(ends) {
		f.logger.Warn("the certificate has expired: clients that check it do not connect; renew it", program.KeyPath, f.chain, "expired", ends)
	}
	return nil
}

// modified returns when the newer of the two files was written.
func (f *Files) modified() (time.Time, error) {
	var newest time.Time
	for _, path := range []string{f.chain, f.key} {
		about, err := os.Stat(path)
		if err != nil {
			return time.Time{}, err
		}
		if about.ModTime().After(newest) {
			newest = about.ModTime()
		}
	}
	return newest, nil
}

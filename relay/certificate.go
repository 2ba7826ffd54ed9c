package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// lookAgain is how often the files of a certificate are looked at.
const lookAgain = time.Minute

// A certificate is read from two files, and again when they have changed, so
// that a renewed one needs no restart.
type certificate struct {
	cert, key string

	mu      sync.Mutex // guards what follows
	loaded  *tls.Certificate
	written time.Time // the newer of both files
	looked  time.Time
}

// get returns the certificate of the moment. One that cannot be read does not
// replace the one before.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.loaded != nil && now.Sub(c.looked) < lookAgain {
		return c.loaded, nil
	}
	c.looked = now
	if err := c.load(); err != nil && c.loaded == nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	return c.loaded, nil
}

func (c *certificate) load() error {
	var newest time.Time
	for _, file := range []string{c.cert, c.key} {
		about, err := os.Stat(file)
		if err != nil {
			return err
		}
		if about.ModTime().After(newest) {
			newest = about.ModTime()
		}
	}
	if c.loaded != nil && newest.Equal(c.written) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	c.loaded, c.written = &pair, newest
	return nil
}

package control

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/wattlenet/wattle/generated/sdk"
)

// Choices of ours.
const (
	// dialTimeout bounds one attempt to reach the control plane.
	dialTimeout = 10 * time.Second

	// answerTimeout bounds the wait for the head of an answer; the stream sends
	// its head at once.
	answerTimeout = 15 * time.Second

	// silence is how long a connection of HTTP/2 may be quiet before it is asked
	// whether it lives.
	silence = 30 * time.Second
)

// transport carries requests and learns the time from the answers.
type transport struct {
	http        atomic.Pointer[http.Transport]
	connections *connections
	clock       *clock
}

// newTransport trusts the authority with the given pin, or the system's roots
// when it is empty.
func newTransport(address, pin string, c *clock, names *net.Resolver) (*transport, error) {
	address, err := ParseAddress(address, true) // whoever stored it has checked that
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("management URL: %w", err)
	}
	open := newConnections(newDialer(names).DialContext)
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           open.DialContext,
		ForceAttemptHTTP2:     true, // one connection for the stream and all else
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: answerTimeout,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: answerTimeout},
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	carrier := &transport{connections: open, clock: c}
	carrier.http.Store(t)
	if pin == "" {
		return carrier, nil
	}
	if base.Scheme != "https" {
		return nil, errors.New("a CA pin needs a management URL that begins with https")
	}
	t.TLSClientConfig, err = pinned(base.Hostname(), pin, c)
	return carrier, err
}

// TLS returns how to check the certificate of host, with whom the control plane
// has told the agent to speak: by the authority with the given pin, or the
// system's when it is empty.
func (c *Client) TLS(host, pin string) (*tls.Config, error) {
	if pin == "" {
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	return pinned(host, pin, c.clock)
}

// TLS is how an agent that is not enrolled yet checks the certificate of host.
func TLS(host, pin string) (*tls.Config, error) {
	if pin == "" {
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	return pinned(host, pin, &clock{})
}

// pinned checks certificates for host by the authority with the given pin.
func pinned(host, pin string, c *clock) (*tls.Config, error) {
	pin, err := ParsePin(pin)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	// The usual check knows the system's roots only; verify does all of it with
	// the pinned authority as the one root.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return verify(pin, host, state.PeerCertificates, c.wall())
	}
	return config, nil
}

// RoundTrip sends a request.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	sent := t.clock.wall()
	answer, err := t.http.Load().RoundTrip(request)
	if err == nil {
		if err = foreign(answer); err != nil {
			_ = answer.Body.Close() // nobody reads a page
			answer = nil
		} else {
			t.clock.learn(answer.Header, sent)
		}
	}
	if err != nil && request.Context().Value(onceKey{}) != nil {
		err = final{err}
	}
	return answer, err
}

// onceKey marks requests that the SDK must not repeat.
type onceKey struct{}

// once returns a context for a request that is sent once: the session waits in
// its own way and tells of every failure.
func once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// final is a failure that the SDK does not repeat.
type final struct{ cause error }

func (f final) Error() string { return f.cause.Error() }

// Unwrap returns the failure.
func (f final) Unwrap() error { return f.cause }

// Is makes the failure look like a request that was given up, which the SDK
// passes on as it is.
func (final) Is(target error) bool { return target == context.Canceled }

// CloseIdleConnections closes connections that no request uses.
func (t *transport) CloseIdleConnections() { t.http.Load().CloseIdleConnections() }

// renew makes the next request open a connection of its own: the present one
// may be dead without knowing.
func (t *transport) renew() {
	former := t.http.Load()
	t.http.Store(former.Clone())
	former.CloseIdleConnections()
}

// verify accepts a chain if one of its certificates has the pinned key and the
// leaf, valid for host, verifies against that certificate.
func verify(pin, host string, chain []*x509.Certificate, now time.Time) error {
	refused := &sdk.PinError{Want: pin}
	for _, c := range chain {
		got := sdk.Pin(c)
		if subtle.ConstantTimeCompare([]byte(got), []byte(pin)) != 1 {
			refused.Got = append(refused.Got, got)
			continue
		}
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(c)
		for _, other := range chain[1:] {
			between.AddCert(other)
		}
		options := x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between, CurrentTime: within(chain[0], now)}
		if _, err := chain[0].Verify(options); err != nil {
			return fmt.Errorf("the certificate comes from the pinned authority but is not valid for %s: %w", host, err)
		}
		return nil
	}
	return refused
}

// within returns now, or the nearest moment of the certificate's life. A
// machine without a battery for its clock starts in the past; it must reach the
// control plane to learn the time, and the pinned key is what it trusts.
func within(leaf *x509.Certificate, now time.Time) time.Time {
	switch {
	case now.Before(leaf.NotBefore):
		return leaf.NotBefore
	case now.After(leaf.NotAfter):
		return leaf.NotAfter
	}
	return now
}

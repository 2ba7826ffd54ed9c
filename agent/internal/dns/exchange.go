package dns

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Choices of ours.
const (
	// tries is how often a datagram is sent to a server that does not answer; the
	// wait begins with firstWait and doubles.
	tries     = 3
	firstWait = 800 * time.Millisecond

	// maxDatagram is the longest answer that is read from a datagram in bytes: more
	// than we offer to take, for servers that do not look at that.
	maxDatagram = 4 << 10

	// idleConns is how many connections to one server wait for the next question,
	// each for idleTime (RFC 7858, section 3.4).
	idleConns = 2
	idleTime  = 10 * time.Second

	// keptWait is how long an answer may take on a connection that was open: what is
	// between us and the server may have forgotten it without a word.
	keptWait = 1500 * time.Millisecond

	// dohPath is the path that RFC 8484 uses in its examples and that every public
	// server has.
	dohPath = "/dns-query"

	dohType = "application/dns-message" // RFC 8484, section 6
)

// An exchanger asks servers. It holds what stays open between two questions.
type exchanger struct {
	dial  Dial
	roots *tls.Config // nil: the authorities of the system

	mu     sync.Mutex // guards all below
	closed bool
	idle   map[Server][]idleConn
	webs   map[Server]*http.Transport
}

// An idleConn was used until since.
type idleConn struct {
	conn  *dns.Conn
	since time.Time
}

func newExchanger(dial Dial, roots *tls.Config) *exchanger {
	return &exchanger{dial: dial, roots: roots, idle: map[Server][]idleConn{}, webs: map[Server]*http.Transport{}}
}

// ask returns what s answers to question. The answer is one to this question;
// its code may be any. Nothing else of it is trusted.
func (x *exchanger) ask(ctx context.Context, s Server, question *dns.Msg) (answer *dns.Msg, err error) {
	switch s.Over {
	case HTTPS:
		answer, err = x.web(ctx, s, question)
	case TLS, TCP:
		answer, err = x.stream(ctx, s, question)
	default:
		answer, err = x.datagram(ctx, s, question)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", s, err)
	}
	if !answers(question, answer) {
		return nil, fmt.Errorf("ask %s: the answer is not one to the question", s)
	}
	return answer, nil
}

// answers reports whether a message is an answer to a question. A server that
// does not understand one may leave it out of its answer.
func answers(question, answer *dns.Msg) bool {
	if !answer.Response || len(question.Question) != 1 {
		return false
	}
	if len(answer.Question) == 0 {
		return answer.Rcode == dns.RcodeFormatError
	}
	asked, said := question.Question[0], answer.Question[0]
	return len(answer.Question) == 1 && said.Qtype == asked.Qtype && said.Qclass == asked.Qclass && strings.EqualFold(said.Name, asked.Name)
}

// datagram asks over UDP, each time from another port, and again over TCP when
// the answer was too long.
func (x *exchanger) datagram(ctx context.Context, s Server, question *dns.Msg) (*dns.Msg, error) {
	wait := firstWait
	var last error
	for range tries {
		answer, err := x.once(ctx, s, question, wait)
		if err == nil && answer.Truncated {
			return x.stream(ctx, s, question)
		}
		if err == nil {
			return answer, nil
		}
		last = err
		var timeout net.Error
		if ctx.Err() != nil || !errors.As(err, &timeout) || !timeout.Timeout() {
			break
		}
		wait *= 2
	}
	return nil, last
}

// once sends a datagram and waits for the answer to it. What else arrives is
// none, and does not end the wait: anybody can send that (RFC 5452, section 9.1).
func (x *exchanger) once(ctx context.Context, s Server, question *dns.Msg, wait time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	conn, err := x.dial(ctx, "udp", s.Addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing is buffered
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	sent, err := question.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(sent); err != nil {
		return nil, err
	}
	received := make([]byte, maxDatagram)
	for {
		n, err := conn.Read(received)
		if err != nil {
			return nil, err
		}
		answer := new(dns.Msg)
		if answer.Unpack(received[:n]) == nil && answer.Id == question.Id && answers(question, answer) {
			return answer, nil
		}
	}
}

// stream asks over TCP or TLS, on a connection that is open already if there is
// one: the server may have closed that meanwhile, or the way there may be gone, so
// a new one is tried after it.
func (x *exchanger) stream(ctx context.Context, s Server, question *dns.Msg) (*dns.Msg, error) {
	if conn := x.take(s); conn != nil {
		if answer, err := x.over(ctx, s, conn, question, keptWait); err == nil || ctx.Err() != nil {
			return answer, err
		}
	}
	raw, err := x.dial(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	if s.Over == TLS {
		raw = tls.Client(raw, x.tls(s, "dot")) // ALPN as registered for RFC 7858
	}
	return x.over(ctx, s, &dns.Conn{Conn: raw}, question, queryTimeout)
}

// over asks on conn and keeps it when it can be used again.
func (x *exchanger) over(ctx context.Context, s Server, conn *dns.Conn, question *dns.Msg, wait time.Duration) (*dns.Msg, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	client := &dns.Client{Net: "tcp", Timeout: wait}
	answer, _, err := client.ExchangeWithConnContext(ctx, question, conn)
	if err != nil || !stop() {
		return answer, errors.Join(err, conn.Close())
	}
	x.give(s, conn)
	return answer, nil
}

// take returns an open connection to s, or nil.
func (x *exchanger) take(s Server) *dns.Conn {
	x.mu.Lock()
	defer x.mu.Unlock()
	for open := x.idle[s]; len(open) > 0; open = x.idle[s] {
		last := open[len(open)-1]
		x.idle[s] = open[:len(open)-1]
		if time.Since(last.since) < idleTime {
			return last.conn
		}
		_ = last.conn.Close() // nothing is buffered
	}
	return nil
}

// give keeps a connection for the next question.
func (x *exchanger) give(s Server, conn *dns.Conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed || s.Over != TLS || len(x.idle[s]) >= idleConns {
		_ = conn.Close() // nothing is buffered
		return
	}
	x.idle[s] = append(x.idle[s], idleConn{conn, time.Now()})
}

func (x *exchanger) tls(s Server, protocols ...string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if x.roots != nil {
		config = x.roots.Clone()
	}
	config.ServerName, config.NextProtos = s.authority(), protocols
	return config
}

// web asks over HTTPS with POST, whose answers no cache on the way keeps. The id
// is zero, as RFC 8484, section 4.1 wants it.
func (x *exchanger) web(ctx context.Context, s Server, question *dns.Msg) (answer *dns.Msg, err error) {
	sent := question.Copy()
	sent.Id = 0
	body, err := sent.Pack()
	if err != nil {
		return nil, err
	}
	target := url.URL{Scheme: "https", Host: s.Addr.String(), Path: dohPath}
	if s.Name != "" {
		target.Host = net.JoinHostPort(s.Name, fmt.Sprint(s.Addr.Port()))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", dohType)
	request.Header.Set("Accept", dohType)
	response, err := x.carrier(s).RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != dohType || response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d with the type %q, which is no DNS", response.StatusCode, response.Header.Get("Content-Type"))
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, dns.MaxMsgSize))
	if err != nil {
		return nil, err
	}
	answer = new(dns.Msg)
	if err := answer.Unpack(raw); err != nil {
		return nil, err
	}
	answer.Id = question.Id
	return answer, nil
}

// carrier returns what keeps the connections to s.
func (x *exchanger) carrier(s Server) *http.Transport {
	x.mu.Lock()
	defer x.mu.Unlock()
	if web := x.webs[s]; web != nil {
		return web
	}
	web := &http.Transport{
		// Whatever the name in the URL, the server is at the address.
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return x.dial(ctx, "tcp", s.Addr)
		},
		TLSClientConfig:     x.tls(s),
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: idleConns,
		IdleConnTimeout:     idleTime,
		TLSHandshakeTimeout: queryTimeout,
	}
	x.webs[s] = web
	return web
}

// forget closes the connections that no question uses: the network they were
// made in may be another one.
func (x *exchanger) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, open := range x.idle {
		for _, waiting := range open {
			_ = waiting.conn.Close() // nothing is buffered
		}
	}
	for _, web := range x.webs {
		web.CloseIdleConnections()
	}
	clear(x.idle)
	clear(x.webs)
}

// close is the end: no connection is kept any more.
func (x *exchanger) close() {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.forget()
}

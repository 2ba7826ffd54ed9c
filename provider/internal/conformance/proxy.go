package conformance

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// proxy stands between provider and server, keeps what was asked, and can
// send a replacement again.
type proxy struct {
	*httptest.Server
	target *url.URL

	mu       sync.Mutex // guards all below
	requests []request
}

type request struct {
	method, uri string
	header      http.Header
	body        []byte
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: u}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		p.mu.Lock()
		p.requests = append(p.requests, request{r.Method, r.URL.RequestURI(), r.Header.Clone(), body})
		p.mu.Unlock()
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// since returns what was asked after the first n requests.
func (p *proxy) since(n int) []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests[n:])
}

func (p *proxy) count() int { return len(p.since(0)) }

func (p *proxy) writes() int {
	n := 0
	for _, r := range p.since(0) {
		if r.method != http.MethodGet {
			n++
		}
	}
	return n
}

// lastPut returns a function that sends the last replacement again, without
// its condition; nil when there was none.
func (p *proxy) lastPut() func() {
	list := p.since(0)
	for _, r := range slices.Backward(list) {
		if r.method == http.MethodPut {
			return func() { p.send(r) }
		}
	}
	return nil
}

// send repeats a request at the server itself. What the server says shows in
// the next step of the test.
func (p *proxy) send(r request) {
	req, err := http.NewRequestWithContext(context.Background(), r.method, strings.TrimSuffix(p.target.String(), "/")+r.uri, bytes.NewReader(r.body))
	if err != nil {
		panic(err)
	}
	req.Header = r.header.Clone()
	for _, h := range []string{"If-Match", "Idempotency-Key", "Accept-Encoding"} {
		req.Header.Del(h)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	if err := res.Body.Close(); err != nil {
		panic(err)
	}
}

package conformance

import (
	"bytes"
	"context"
	"encoding/json"
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

// lastWrite is the last write of an object of the collection whose body has
// the member; any body will do for "". What is immutable stands in creates only.
func (p *proxy) lastWrite(collection, member string) (request, bool) {
	for _, r := range slices.Backward(p.since(0)) {
		path, _, _ := strings.Cut(r.uri, "?")
		var body map[string]json.RawMessage
		if r.method == http.MethodGet || r.method == http.MethodDelete || !sameFolder(collection, path) || json.Unmarshal(r.body, &body) != nil {
			continue
		}
		if member == "" || holds(body, member) {
			return r, true
		}
	}
	return request{}, false
}

// holds reports whether a body has the member, as name or as outer.inner.
func holds(body map[string]json.RawMessage, member string) bool {
	outer, inner, deeper := strings.Cut(member, ".")
	value, ok := body[outer]
	if !ok || !deeper {
		return ok
	}
	var nested map[string]json.RawMessage
	return json.Unmarshal(value, &nested) == nil && holds(nested, inner)
}

// replaced is a body with another value of the member.
func replaced(raw []byte, member, literal string) ([]byte, error) {
	var body map[string]json.RawMessage
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, err
	}
	value := json.RawMessage(literal)
	outer, inner, deeper := strings.Cut(member, ".")
	if deeper {
		var err error
		if value, err = replaced(body[outer], inner, literal); err != nil {
			return nil, err
		}
	}
	body[outer] = value
	return json.Marshal(body)
}

// refused sends a write again, to the same place or for one more object, with
// a wrong value, which is an HCL and so a JSON literal.
func (p *proxy) refused(t *testing.T, r request, member, literal string) (status int, fields []string) {
	t.Helper()
	raw, err := replaced(r.body, member, literal)
	if err != nil {
		t.Fatal(err)
	}
	r.body = raw
	res, err := p.do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var said struct{ Errors []struct{ Field string } }
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil {
		t.Fatal(err)
	}
	for _, e := range said.Errors {
		fields = append(fields, e.Field)
	}
	return res.StatusCode, fields
}

// send repeats a request at the server itself. What the server says shows in
// the next step of the test.
func (p *proxy) send(r request) {
	res, err := p.do(context.Background(), r)
	if err != nil {
		panic(err)
	}
	if err := res.Body.Close(); err != nil {
		panic(err)
	}
}

func (p *proxy) do(ctx context.Context, r request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, strings.TrimSuffix(p.target.String(), "/")+r.uri, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header = r.header.Clone()
	for _, h := range []string{"If-Match", "Idempotency-Key", "Accept-Encoding", "Content-Length"} {
		req.Header.Del(h)
	}
	return http.DefaultClient.Do(req)
}

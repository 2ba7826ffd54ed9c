package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
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

// again sends the replacements and changes among the requests from the n-th up
// to the m-th once more, without their conditions.
func (p *proxy) again(n, m int) {
	for _, r := range p.since(n)[:m-n] {
		if r.method == http.MethodPut || r.method == http.MethodPatch {
			p.send(r)
		}
	}
}

// last returns a function that sends the last replacement or change again,
// without its condition; nil when there was none.
func (p *proxy) last() func() {
	for _, r := range slices.Backward(p.since(0)) {
		if r.method == http.MethodPut || r.method == http.MethodPatch {
			return func() { p.send(r) }
		}
	}
	return nil
}

// flawed is the last write of an object of the collection in which the place
// exists, with a wrong value there, an HCL and so a JSON literal. A member of
// the body itself has to be in it; one that is optional in every write can be
// added. What is immutable is chosen by creates only.
func (p *proxy) flawed(collection, place, literal string, add, immutable bool) (request, bool) {
	way := strings.FieldsFunc(place, func(r rune) bool { return strings.ContainsRune(".[]", r) })
	for _, r := range slices.Backward(p.since(0)) {
		path, _, _ := strings.Cut(r.uri, "?")
		var body map[string]any
		if r.method == http.MethodGet || r.method == http.MethodDelete || immutable && r.method != http.MethodPost || !sameFolder(collection, path) || json.Unmarshal(r.body, &body) != nil {
			continue
		}
		if _, there := body[way[0]]; !there && !add {
			continue
		}
		wrong, ok := placed(body, way, json.RawMessage(literal))
		if !ok {
			continue
		}
		raw, err := json.Marshal(wrong)
		if err != nil {
			continue
		}
		r.body = raw
		return r, true
	}
	return request{}, false
}

// placed is a value with another one at the end of the way; not ok where the way
// ends before.
func placed(value any, way []string, other any) (out any, ok bool) {
	if len(way) == 0 {
		return other, true
	}
	switch v := value.(type) {
	case map[string]any:
		if _, there := v[way[0]]; !there && len(way) > 1 {
			return nil, false
		}
		inner, ok := placed(v[way[0]], way[1:], other)
		v = maps.Clone(v)
		v[way[0]] = inner
		return v, ok
	case []any:
		i, err := strconv.Atoi(way[0])
		if err != nil || i >= len(v) {
			return nil, false
		}
		inner, ok := placed(v[i], way[1:], other)
		v = slices.Clone(v)
		v[i] = inner
		return v, ok
	}
	return nil, false
}

// refused sends a wrong write, to the same place or for one more object.
func (p *proxy) refused(t *testing.T, r request) (status int, fields []string) {
	t.Helper()
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

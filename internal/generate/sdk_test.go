package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// transport answers requests in order, without a network, so that waits can
// run on a fake clock.
type transport struct {
	mu       sync.Mutex // guards all below
	answers  []answer
	requests []*http.Request
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests = append(t.requests, r)
	next := t.answers[0]
	if len(t.answers) > 1 {
		t.answers = t.answers[1:]
	}
	if next.broken {
		return nil, errors.New("connection reset")
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	if next.status >= 400 {
		w.Header().Set("Content-Type", "application/problem+json")
	}
	maps.Copy(w.Header(), next.header)
	w.WriteHeader(next.status)
	if next.body == "" {
		return w.Result(), nil
	}
	_, err := w.WriteString(next.body)
	res := w.Result()
	if next.short {
		res.Body = io.NopCloser(io.MultiReader(res.Body, iotest.ErrReader(io.ErrUnexpectedEOF)))
	}
	return res, err
}

// answer is what the other side says; broken means that it says nothing.
type answer struct {
	status int
	header http.Header
	body   string
	broken bool
	short  bool // the connection ends before the body does
}

func says(status int, header http.Header, body string) answer {
	return answer{status: status, header: header, body: body}
}

var breaks = answer{broken: true}

// breaksOff is an answer whose connection ends in the middle of its body.
var breaksOff = answer{status: 200, body: `{"id":"g1",`, short: true}

func problemText(kind string, status int) string {
	return fmt.Sprintf(`{"type":"/problems/%s","title":"T","status":%d,"code":%d,"detail":"D","message":"d","request_id":"r"}`, kind, status, status)
}

func client(t *testing.T, answers ...answer) (*sdk.Client, *transport) {
	t.Helper()
	tr := &transport{answers: answers}
	c, err := sdk.New(sdk.Config{URL: "https://example.org/base/", Token: "wtp_x", Account: "a1", HTTPClient: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	return c, tr
}

// TestRetries: what is repeated, and how long the client waits.
func TestRetries(t *testing.T) {
	const group = `{"id":"g1","name":"web","issued":"api","peers":[],"peers_count":0,"resources":[],"resources_count":0,"version":1}`
	get := func(ctx context.Context, c *sdk.Client) error { _, err := c.GetGroup(ctx, "g1"); return err }
	create := func(ctx context.Context, c *sdk.Client) error {
		_, err := c.CreateGroup(ctx, api.GroupRequest{Name: "web"})
		return err
	}
	enroll := func(ctx context.Context, c *sdk.Client) error {
		_, err := c.EnrollAgent(ctx, api.EnrollRequest{})
		return err
	}
	once := func(ctx context.Context, c *sdk.Client) error {
		_, err := c.GetGroup(ctx, "g1", sdk.Once())
		return err
	}
	ok := says(200, nil, group)
	for _, c := range []struct {
		name     string
		call     func(context.Context, *sdk.Client) error
		answers  []answer
		requests int
		least    time.Duration
		fails    bool
	}{
		{"503 with Retry-After", get, []answer{says(503, http.Header{"Retry-After": {"7"}}, problemText("unavailable", 503)), ok}, 2, 7 * time.Second, false},
		{"429 of a POST without key", enroll, []answer{says(429, http.Header{"Retry-After": {"2"}}, problemText("rate-limited", 429)), says(200, nil, "{}")}, 2, 2 * time.Second, false},
		{"Retry-After of an hour is the caller's", get, []answer{says(503, http.Header{"Retry-After": {"3600"}}, problemText("unavailable", 503))}, 1, 0, true},
		{"502 of a GET", get, []answer{says(502, nil, "no"), ok}, 2, 0, false},
		{"502 of a POST with its key", create, []answer{says(502, nil, "no"), ok}, 2, 0, false},
		{"502 of a POST without key", enroll, []answer{says(502, nil, "no")}, 1, 0, true},
		{"broken connection of a GET", get, []answer{breaks, breaks, ok}, 3, 0, false},
		{"answer that breaks off, of a POST with its key", create, []answer{breaksOff, ok}, 2, 0, false},
		{"broken connection of a POST without key", enroll, []answer{breaks}, 1, 0, true},
		{"404 is final", get, []answer{says(404, nil, problemText("not-found", 404))}, 1, 0, true},
		{"it ends", get, []answer{breaks}, 6, 0, true},
		{"503 of a call that is made once", once, []answer{says(503, http.Header{"Retry-After": {"7"}}, problemText("unavailable", 503)), ok}, 1, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl, tr := client(t, c.answers...)
				start := time.Now()
				err := c.call(t.Context(), cl)
				if (err != nil) != c.fails {
					t.Errorf("error %v, want one: %v", err, c.fails)
				}
				if len(tr.requests) != c.requests {
					t.Errorf("%d requests, want %d", len(tr.requests), c.requests)
				}
				if waited := time.Since(start); waited < c.least || waited > c.least+c.least/4+10*time.Second {
					t.Errorf("waited %v, want at least %v", waited, c.least)
				}
			})
		})
	}
}

// TestIdempotencyKeyStays: all attempts of one create carry one key, two
// creates carry two.
func TestIdempotencyKeyStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, tr := client(t, breaks, says(200, nil, `{}`))
		for range 2 {
			if _, err := c.CreateGroup(t.Context(), api.GroupRequest{Name: "web"}); err != nil {
				t.Fatal(err)
			}
		}
		keys := []string{}
		for _, r := range tr.requests {
			keys = append(keys, r.Header.Get("Idempotency-Key"))
		}
		if len(keys) != 3 || keys[0] == "" || keys[0] != keys[1] || keys[1] == keys[2] {
			t.Errorf("keys %q, want the first two equal", keys)
		}
	})
}

func TestRequestShape(t *testing.T) {
	c, tr := client(t, says(200, nil, `{}`))
	if _, err := c.UpdateGroup(t.Context(), "g/1", api.GroupRequest{Name: "web"}, sdk.IfMatch(`"3"`), sdk.Query("reason", "a b")); err != nil {
		t.Fatal(err)
	}
	r := tr.requests[0]
	if got, want := r.URL.String(), "https://example.org/base/api/groups/g%2F1?account=a1&reason=a+b"; got != want {
		t.Errorf("url %s, want %s", got, want)
	}
	if got := r.Header.Get("Authorization"); got != "Token wtp_x" {
		t.Errorf("authorization %q", got)
	}
	if got := r.Header.Get("If-Match"); got != `"3"` {
		t.Errorf("if-match %q", got)
	}
}

// TestPreview: a write is tried only where a read, which changes nothing
// anywhere, has told that the server heeds the parameter; that is asked once.
func TestPreview(t *testing.T) {
	heeds := says(422, nil, `{"type":"/problems/invalid","title":"T","status":422,"code":422,"detail":"D","message":"d","request_id":"r","errors":[{"field":"dry_run","detail":"must be true or false"}]}`)
	media := http.Header{"Content-Type": {"application/vnd.wattle.access-preview+json"}}
	tells := says(200, media, `{"gained":{"count":1,"sample":[]},"lost":{"count":0,"sample":[]},"changed":{"count":0,"sample":[]}}`)
	t.Run("known", func(t *testing.T) {
		c, tr := client(t, heeds, tells, tells)
		for range 2 {
			preview, err := c.PreviewDeleteGroup(t.Context(), "g1", sdk.Once())
			if err != nil || preview.Gained.Count != 1 {
				t.Fatalf("preview %+v, %v", preview, err)
			}
		}
		var seen []string
		for _, r := range tr.requests {
			seen = append(seen, r.Method+" "+r.URL.Query().Get("dry_run"))
		}
		if want := []string{"GET supported", "DELETE true", "DELETE true"}; !slices.Equal(seen, want) {
			t.Errorf("requests %q, want %q", seen, want)
		}
	})
	for name, answers := range map[string][]answer{
		"unknown parameter":  {says(200, nil, `{}`)},
		"no such object":     {says(404, nil, problemText("not-found", 404))},
		"another fault":      {says(422, nil, problemText("invalid", 422))},
		"away":               {says(503, nil, problemText("unavailable", 503))},
		"carried out anyway": {heeds, says(200, http.Header{"Content-Type": {"application/json"}}, `{}`)},
	} {
		t.Run(name, func(t *testing.T) {
			c, tr := client(t, answers...)
			preview, err := c.PreviewDeleteGroup(t.Context(), "g1", sdk.Once())
			if err == nil || preview != nil || len(tr.requests) != len(answers) {
				t.Errorf("preview %+v, %v after %d requests, want an error after %d", preview, err, len(tr.requests), len(answers))
			}
			if len(answers) == 1 && tr.requests[0].Method != http.MethodGet {
				t.Errorf("%s was sent to a server that does not know trials", tr.requests[0].Method)
			}
			if name == "unknown parameter" && !errors.Is(err, sdk.ErrNoPreview) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestErrors: kinds by type, never by text; an answer of something in between
// is no problem of the control plane.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer answer
		is     func(error) bool
		want   bool
	}{
		{"not found", says(404, nil, problemText("not-found", 404)), sdk.IsNotFound, true},
		{"not found of another server", says(404, nil, `<html>not found</html>`), sdk.IsNotFound, false},
		{"peer offline is not not-found", says(404, nil, problemText("peer-offline", 404)), sdk.IsNotFound, false},
		{"in use", says(400, nil, problemText("in-use", 400)), sdk.IsInUse, true},
		{"conflict", says(409, nil, problemText("conflict", 409)), sdk.IsConflict, true},
		{"precondition", says(412, nil, problemText("precondition-failed", 412)), sdk.IsPreconditionFailed, true},
		{"invalid", says(422, nil, problemText("invalid", 422)), sdk.IsInvalid, true},
		{"not modified", says(304, nil, ``), func(err error) bool { return errors.Is(err, sdk.ErrNotModified) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, _ := client(t, c.answer)
			_, err := cl.GetGroup(t.Context(), "g1")
			if got := c.is(fmt.Errorf("wrapped: %w", err)); got != c.want {
				t.Errorf("%v for %v, want %v", got, err, c.want)
			}
		})
	}
}

// TestErrorTellsEachFaultOnce: what the text has said already is not said again.
func TestErrorTellsEachFaultOnce(t *testing.T) {
	for _, c := range []struct{ detail, want string }{
		{"name: taken; id: unknown", "name: taken; id: unknown"},
		{"two faults", "two faults; name: taken; id: unknown"},
	} {
		body := fmt.Sprintf(`{"type":"invalid","title":"Invalid","status":422,"detail":%q,"errors":[{"field":"name","detail":"taken"},{"field":"id","detail":"unknown"}]}`, c.detail)
		cl, _ := client(t, says(422, nil, body))
		if _, err := cl.GetGroup(t.Context(), "g1"); err == nil || err.Error() != "GET /api/groups/g1: "+c.want {
			t.Errorf("%q, want %q after the path", err, c.want)
		}
	}
}

// TestPages: the iterator follows Link until there is no next page, and stops
// when the caller does.
func TestPages(t *testing.T) {
	page := func(next string, ids ...string) answer {
		list := []map[string]any{}
		for _, id := range ids {
			list = append(list, map[string]any{"id": id})
		}
		raw, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		if next != "" {
			h.Set("Link", `</api/groups?cursor=`+next+`&limit=2>; rel="next"`)
		}
		return says(200, h, string(raw))
	}
	c, tr := client(t, page("c2", "a", "b"), page("c3", "c", "d"), page("", "e"))
	var got string
	for g, err := range c.Groups(t.Context(), sdk.ListGroupsOptions{Limit: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		got += g.Id
	}
	if got != "abcde" {
		t.Errorf("groups %q, want abcde", got)
	}
	if q := tr.requests[2].URL.Query(); q.Get("cursor") != "c3" || q.Get("limit") != "2" {
		t.Errorf("third request %v", tr.requests[2].URL)
	}
	c, tr = client(t, page("c2", "a", "b"))
	for _, err := range c.Groups(t.Context(), sdk.ListGroupsOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if len(tr.requests) != 1 {
		t.Errorf("%d requests after a break, want 1", len(tr.requests))
	}
}

// TestStream: one event a line; long lines pass; the end is no error, a line
// that is no event is.
func TestStream(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	body := `{"type":"ping","at":"2030-01-01T00:00:00Z"}` + "\n\n" + `{"type":"command","id":"` + long + `","kind":"resync"}` + "\n" + `{"type":"caught_up","serial":7}`
	c, _ := client(t, says(200, nil, body))
	var kinds []string
	for ev, err := range c.StreamAgent(t.Context(), sdk.StreamAgentOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		kind, err := ev.Discriminator()
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, kind)
	}
	if got := strings.Join(kinds, " "); got != "ping command caught_up" {
		t.Errorf("events %q", got)
	}
	c, _ = client(t, says(200, nil, "nonsense\n"))
	for _, err := range c.StreamAgent(t.Context(), sdk.StreamAgentOptions{}) {
		if err == nil {
			t.Error("nonsense is an event")
		}
	}
}

// TestTokenSource: agents sign a token for each attempt; anonymous operations
// carry none.
func TestTokenSource(t *testing.T) {
	tr := &transport{answers: []answer{says(200, nil, `{}`)}}
	n := 0
	c, err := sdk.New(sdk.Config{URL: "https://example.org", HTTPClient: &http.Client{Transport: tr}, TokenSource: func(context.Context) (string, error) {
		n++
		return fmt.Sprintf("jwt%d", n), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.SignalAgent(t.Context(), api.SignalRequest{To: "p1"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.GetInstance(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"Bearer jwt1", "Bearer jwt2", ""} {
		if got := tr.requests[i].Header.Get("Authorization"); got != want {
			t.Errorf("request %d: authorization %q, want %q", i, got, want)
		}
	}
}

// TestPin: a chain is accepted if one of its certificates has the pinned key
// and the leaf verifies against it, for the right name only.
func TestPin(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"setup_required":false}`))
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	pin := sdk.Pin(server.Certificate())
	other := "sha256:" + strings.Repeat("0", 64)
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]
	for _, c := range []struct {
		name, url, pin string
		check          func(error) bool
	}{
		{"right pin", server.URL, pin, func(err error) bool { return err == nil }},
		{"wrong pin", server.URL, other, func(err error) bool { var p *sdk.PinError; return errors.As(err, &p) && p.Want == other }},
		{"right pin, wrong name", "https://localhost" + port, pin, func(err error) bool {
			var name x509.HostnameError
			return errors.As(err, &name)
		}},
		{"no pin", server.URL, "", func(err error) bool { var u x509.UnknownAuthorityError; return errors.As(err, &u) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, err := sdk.New(sdk.Config{URL: c.url, CAPin: c.pin})
			if err != nil {
				t.Fatal(err)
			}
			defer cl.CloseIdleConnections()
			if _, err := cl.GetInstance(t.Context()); !c.check(err) {
				t.Errorf("error %v", err)
			}
		})
	}
	for _, bad := range []sdk.Config{{URL: "example.org"}, {URL: server.URL, CAPin: "sha256:12"}, {URL: "http://example.org", CAPin: pin}, {URL: server.URL, CAPin: pin, HTTPClient: http.DefaultClient}} {
		if _, err := sdk.New(bad); err == nil {
			t.Errorf("New(%+v): no error", bad)
		}
	}
}

func TestProfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "credentials")
	t.Setenv("WATTLE_CREDENTIALS", path)
	if _, err := sdk.FromProfile(""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a profile: %v, want fs.ErrNotExist", err)
	}
	want := sdk.Profile{URL: "http://127.0.0.1:1", Token: "wtp_x"}
	if err := want.Write(""); err != nil {
		t.Fatal(err)
	}
	got, err := sdk.ReadProfile("")
	if err != nil || got != want {
		t.Errorf("profile %+v, %v; want %+v", got, err, want)
	}
	stat, err := os.Stat(path)
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", stat.Mode(), err)
	}
	if _, err := sdk.FromProfile(""); err != nil {
		t.Error(err)
	}
}

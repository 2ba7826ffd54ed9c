package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
)

// hostile makes requests of the contract with something wrong in them. Equal
// numbers make equal requests.
type hostile struct {
	*world
	machine *controlplanetest.Machine
	client  *http.Client
	bodies  map[string]string // by operation: what it takes
	paths   map[string]string // by operation: its path with parameters that exist
	seen    map[int]int       // how many answers had each status
}

// patience is how long an answer may take before it counts as a hang; it is
// never the measure of anything.
const patience = time.Minute

func newHostile(t testing.TB) *hostile {
	t.Helper()
	h := &hostile{
		world: newWorld(t), client: &http.Client{Transport: http.DefaultTransport, Timeout: patience},
		bodies: map[string]string{}, paths: map[string]string{}, seen: map[int]int{},
	}
	h.populate(t)
	return h
}

// populate makes one object of each noun, for the paths and for what refers to them.
func (h *hostile) populate(t testing.TB) {
	t.Helper()
	clear(h.ids)
	h.machine = controlplanetest.NewMachine(t, h.plane)
	h.ids["peer"] = []string{h.machine.PeerID}
	for _, s := range h.specimens {
		h.path(t, s.collection)
		if noun := strings.TrimSuffix(strings.Trim(s.item[strings.LastIndex(s.item, "{"):], "{}"), "_id"); h.ids[noun] == nil {
			_, id := h.make(t, s)
			h.ids[noun] = append(h.ids[noun], id)
		}
	}
	for _, operation := range api.Operations {
		declared := h.spec.Paths.Value(operation.Path).GetOperation(operation.Method)
		h.paths[operation.ID] = h.path(t, operation.Path)
		if schema := bodyOf(declared); schema != nil {
			h.bodies[operation.ID] = h.body(t, schema)
		} else if operation.PlainBody {
			h.bodies[operation.ID] = `{"version":4,"serial":1,"lineage":"l"}`
		}
	}
}

// try sends the request of a number and checks the answer.
func (h *hostile) try(t *testing.T, number uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(number, 0)) // equal numbers make equal requests
	all := api.Operations
	operation := all[r.IntN(len(all))]
	if operation.ID == "StreamAgent" {
		return // its answer does not end; see the fuzz targets of the agent protocol
	}
	request := h.request(t, r, operation)
	response, err := h.client.Do(request)
	if err != nil && (strings.Contains(err.Error(), "invalid header field") || request.ContentLength > 1<<20 && !errors.Is(err, context.DeadlineExceeded)) {
		return // the client refused to send it, or the server to read on
	}
	if err != nil {
		t.Errorf("%d: %s %s: %v", number, request.Method, request.URL, err)
		return
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("%d: %s %s: %v", number, request.Method, request.URL, err)
		return
	}
	got := answer{status: response.StatusCode, header: response.Header, body: body}
	h.seen[got.status]++
	if got.status >= http.StatusInternalServerError {
		t.Errorf("%d: %s %s: %d %s", number, request.Method, request.URL, got.status, body)
	}
	// Go's server refuses a request line or a header that is none before any
	// handler sees it, in plain text; everything else is a problem.
	if got.status >= http.StatusBadRequest && !bytes.HasPrefix(body, []byte("400 Bad Request")) && request.Method != http.MethodHead {
		_ = got.problem(t)
	}
	if declared := h.spec.Paths.Value(operation.Path).GetOperation(operation.Method); got.status == http.StatusOK && request.Method == operation.Method &&
		request.Header.Get("X-Elsewhere") == "" && strings.HasPrefix(got.header.Get("Content-Type"), "application/json") && answerOf(declared) != nil && !strings.Contains(request.URL.RawQuery, "fields") {
		conforms(t, answerOf(declared), body)
	}
	if got.status == http.StatusOK && request.Method == http.MethodDelete {
		h.populate(t)
	}
	if t.Failed() {
		t.Fatalf("the request was number %d: %s %s %v", number, request.Method, request.URL, request.Header)
	}
}

func (h *hostile) request(t *testing.T, r *rand.Rand, operation api.Operation) *http.Request {
	t.Helper()
	body := h.bodies[operation.ID]
	if body != "" {
		body = hostileBody(r, body)
	}
	request, err := http.NewRequestWithContext(t.Context(), operation.Method, h.plane.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.URL.Opaque = h.paths[operation.ID] // sent as it stands
	request.URL.RawQuery = hostileQuery(r, h.spec.Paths.Value(operation.Path).GetOperation(operation.Method))
	request.Header.Set("Authorization", "Token "+h.plane.Token)
	if operation.Credential == api.AgentCredential {
		request.Header.Set("Authorization", h.machine.Authorization(t))
	}
	if r.IntN(4) == 0 && strings.Contains(operation.Path, "{") {
		request.URL.Opaque = parameter.ReplaceAllStringFunc(operation.Path, func(string) string { return one(r, hostileSegments) })
		request.Header.Set("X-Elsewhere", "1")
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, values := range hostileHeaders {
		if r.IntN(12) == 0 {
			request.Header.Set(name, one(r, values))
		}
	}
	if r.IntN(20) == 0 {
		request.Method = one(r, []string{"PATCH", "HEAD", "OPTIONS", "DELETE", "PUT", "TRACE", "BREW", "get"})
	}
	if r.IntN(20) == 0 {
		request.ContentLength = -1 // in chunks
	}
	return request
}

func one[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

var (
	hostileSegments = []string{
		"none", "current", "settings", "%00", "%2F", "..", "%2e%2e", "..%2f..%2fgroups", "%ff%fe", "{group_id}", "-1", "9223372036854775808",
		strings.Repeat("x", 65), strings.Repeat("%41", 3000), "a;b", "a?b", "a%3Fb", "%E2%80%AE", "'%20OR%201=1--", "null", "%0d%0aX-A:%20b", "a%20b", "",
	}

	hostileTexts = []string{
		"", " ", "\x00", "\u0000", "not found", "Not Found", "../../etc/passwd", "'; DROP TABLE object; --", "%s%n", "\u202e", "😀", "a\nb", "null", "true", "0", "-1",
		strings.Repeat("x", 64), strings.Repeat("x", 256), strings.Repeat("é", 255), strings.Repeat("x", 1<<16), "All", "300.1.1.1", "0.0.0.0/0", "::/0", "::1%lo", "10.0.0.1/8", "example.org.",
		"*", "*.example.org", "http://[::1", "https://example.org:99999", "0001-01-01T00:00:00Z", "9999-99-99T99:99:99Z", "1-1", "65536", "^(a+)+$",
	}

	hostileHeaders = map[string][]string{
		"Authorization":     {"", "Token", "Token ", "Bearer", "Bearer a.b.c", "Bearer ..", "Token wtp_" + strings.Repeat("x", 5000), "Basic YTpi", "token\twtp_x", "Negotiate x"},
		"Content-Type":      {"", "text/plain", "application/json; charset=latin1", "application/merge-patch+json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ";;", "application/json;" + strings.Repeat("a=b;", 500)},
		"Content-Encoding":  {"gzip", "br", "identity, identity"},
		"If-Match":          {"*", `""`, `"1"`, `W/"1"`, `"999999999999999999999"`, "1", `"1`, strings.Repeat(`"1",`, 2000), `"a", "b"`},
		"If-None-Match":     {"*", `"1"`, `W/"1"`, strings.Repeat(`"1",`, 2000), "nonsense"},
		"Idempotency-Key":   {"k", " ", strings.Repeat("k", 129), strings.Repeat("k", 8000), "é", "a/b"},
		"X-Request-ID":      {"", "a b", strings.Repeat("x", 5000), "<script>", "%0a"},
		"X-Managed-By":      {"terraform", "command", "nonsense", strings.Repeat("x", 5000)},
		"X-Forwarded-For":   {"::1", "nonsense", strings.Repeat("1.1.1.1,", 1000)},
		"Accept":            {"text/html", "application/xml", "*/*;q=0"},
		"Range":             {"bytes=0-0", "bytes=-1", "bytes=9-1"},
		"Expect":            {"100-continue"},
		"Transfer-Encoding": {"chunked"},
		"Origin":            {"null", "https://elsewhere.example"},
	}

	hostileValues = map[string][]string{
		"limit":   {"0", "-1", "1", "1000", "1001", "1e3", "many", "9223372036854775808", "", "0x10"},
		"cursor":  {"", "nonsense", "MA", "LTE", "____", strings.Repeat("A", 600), "enp6enp6enp6enp6enp6", "\x00"},
		"ids":     {"", ",", ",,,,", "a", strings.Repeat("a,", 199) + "a", strings.Repeat("a,", 300), "a,a", "\x00"},
		"fields":  {"", ",", "id", "id,id", "nonsense", "Id", strings.Repeat("id,", 300), "id,\xff"},
		"strict":  {"true", "false", "maybe", ""},
		"dry_run": {"true", "maybe"},
		"account": {"none", "", "\x00", strings.Repeat("a", 5000)},
	}
)

// hostileQuery has right and wrong values of what is declared, and more.
func hostileQuery(r *rand.Rand, operation *openapi3.Operation) string {
	var parts []string
	add := func(name string, values []string) {
		value := url.QueryEscape(one(r, values))
		if r.IntN(30) == 0 {
			value = one(r, []string{"%", "%zz", "%00", ";", "a=b=c", "%u0041"})
		}
		parts = append(parts, name+"="+value)
	}
	for _, p := range operation.Parameters {
		if p.Value.In == "query" && r.IntN(3) == 0 {
			values := hostileValues[p.Value.Name]
			if values == nil || r.IntN(4) == 0 {
				values = hostileTexts
			}
			add(p.Value.Name, values)
		}
	}
	if r.IntN(8) == 0 {
		name := one(r, slices.Sorted(maps.Keys(hostileValues)))
		add(name, hostileValues[name])
	}
	if r.IntN(10) == 0 {
		add(one(r, []string{"unknown", "", "token", "access_token", "name[]", "%00"}), hostileTexts)
	}
	if len(parts) > 0 && r.IntN(10) == 0 {
		parts = append(parts, parts[0])
	}
	return strings.Join(parts, "&")
}

// hostileBody changes a right body: most often one value, so that it comes far.
func hostileBody(r *rand.Rand, body string) string {
	if r.IntN(10) == 0 {
		return hostileText(r, body)
	}
	var value any
	if json.Unmarshal([]byte(body), &value) != nil {
		return hostileText(r, body)
	}
	for range 1 + r.IntN(3) {
		value = changed(r, value, 0)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return body
	}
	return string(text)
}

// hostileText breaks the text of a body.
func hostileText(r *rand.Rand, body string) string {
	at := r.IntN(len(body) + 1)
	switch r.IntN(9) {
	case 0:
		return body[:at]
	case 1:
		return body[:at] + one(r, []string{"\xff", "\x00", "{", "]", `"`, ",", "\xef\xbb\xbf", "\\u", "1e999999"}) + body[at:]
	case 2:
		return body + body
	case 3: // the same members twice
		return strings.TrimSuffix(body, "}") + "," + strings.TrimPrefix(body, "{")
	case 4:
		return strings.Repeat(`{"a":`, 20000)
	case 5:
		return strings.Repeat("[", 12000) + strings.Repeat("]", 12000)
	case 6:
		return strings.TrimSuffix(body, "}") + `,"pad":"` + strings.Repeat("x", 1<<20) + `"}`
	case 7:
		return strings.ToUpper(body)
	default:
		return one(r, hostileBodies())
	}
}

// changed replaces, removes or adds something somewhere in a value.
func changed(r *rand.Rand, value any, depth int) any {
	switch container := value.(type) {
	case map[string]any:
		names := slices.Sorted(maps.Keys(container))
		if len(names) == 0 || depth > 8 {
			return wrong(r)
		}
		name := one(r, names)
		switch r.IntN(8) {
		case 0:
			delete(container, name)
		case 1:
			container[one(r, hostileTexts)] = wrong(r)
		case 2, 3:
			container[name] = wrong(r)
		default:
			container[name] = changed(r, container[name], depth+1)
		}
		return container
	case []any:
		if len(container) == 0 || r.IntN(4) == 0 {
			return slices.Repeat([]any{wrong(r)}, one(r, []int{0, 1, 2, 65, 257}))
		}
		i := r.IntN(len(container))
		if r.IntN(4) == 0 {
			return append(container, container[i])
		}
		container[i] = changed(r, container[i], depth+1)
		return container
	default:
		return wrong(r)
	}
}

func wrong(r *rand.Rand) any {
	switch r.IntN(10) {
	case 0:
		return nil
	case 1:
		return r.IntN(2) == 0
	case 2:
		return json.Number(one(r, []string{"0", "-1", "1", "1.5", "1e300", "-0", "65536", "9223372036854775807", "9223372036854775808", "1e-400", "366"}))
	case 3:
		return []any{}
	case 4:
		return map[string]any{}
	case 5:
		return []any{nil, 1, "a", []any{}, map[string]any{}}
	case 6:
		return map[string]any{"id": one(r, hostileTexts), "type": one(r, hostileTexts), "name": nil}
	default:
		return one(r, hostileTexts)
	}
}

// hostileCases is how many requests go test sends; the fuzz target sends more.
const hostileCases = 2000

// No request that anybody can send is a fault of the server: no panic, no hang,
// no answer that the contract does not promise, and what is refused is a problem.
func TestHostileRequests(t *testing.T) {
	h := newHostile(t)
	for number := range uint64(hostileCases) {
		h.try(t, number)
	}
	t.Logf("answers by status: %v", h.seen)
	for _, status := range []int{http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity} {
		if h.seen[status] < hostileCases/20 {
			t.Errorf("only %d of %d answers are %d: the requests do not come far", h.seen[status], hostileCases, status)
		}
	}
	h.sound(t)
}

// sound checks that what the requests left behind can be read.
func (h *hostile) sound(t *testing.T) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(h.spec.Paths.Map())) {
		operation := h.spec.Paths.Value(path).Get
		if operation == nil || strings.Contains(path, "{") || !strings.HasPrefix(path, "/api/") || answerOf(operation) == nil {
			continue
		}
		got := ask(t, h.plane, "GET", path, "")
		if got.status != http.StatusOK {
			t.Errorf("GET %s afterwards: %d %s", path, got.status, got.body)
			continue
		}
		conforms(t, answerOf(operation), got.body)
	}
}

func FuzzHostileRequests(f *testing.F) {
	for number := range uint64(20) {
		f.Add(number + hostileCases)
	}
	h := newHostile(f)
	f.Fuzz(func(t *testing.T, number uint64) { h.try(t, number) })
}

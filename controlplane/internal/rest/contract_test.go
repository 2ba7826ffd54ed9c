package rest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
)

// An answer is what came back, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem returns the body of a refusal and checks what all of them promise.
func (a answer) problem(t *testing.T) api.Problem {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("status %d: %q is no problem: %v", a.status, a.body, err)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("problem %s has media type %q", p.Type, got)
	}
	if p.Status != a.status || p.Code != a.status || p.Message != strings.ToLower(p.Detail) || p.Detail == "" || p.Title == "" || p.RequestId == "" ||
		!strings.HasPrefix(p.Type, "/problems/") || a.header.Get("X-Request-ID") != p.RequestId {
		t.Errorf("incomplete problem with status %d: %s", a.status, a.body)
	}
	if strings.Contains(p.Message, "not found") != (a.status == http.StatusNotFound) {
		t.Errorf("status %d says %q", a.status, p.Message)
	}
	return p
}

// ask sends a request; header is a list of names and values.
func ask(t testing.TB, plane *controlplanetest.Server, method, path, body string, header ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, plane.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Token "+plane.Token)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for pair := range slices.Chunk(header, 2) {
		request.Header.Del(pair[0])
		if pair[1] != "" {
			request.Header.Set(pair[0], pair[1])
		}
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: response.StatusCode, header: response.Header, body: text}
}

var parameter = regexp.MustCompile(`\{[^}]+\}`)

// address fills the parameters of a path.
func address(operation api.Operation) string {
	return parameter.ReplaceAllString(operation.Path, "none")
}

const anonymous = "" // no Authorization at all

func TestTransportOfEveryOperation(t *testing.T) {
	plane := controlplanetest.New(t)
	for _, operation := range api.Operations {
		t.Run(operation.ID, func(t *testing.T) {
			path := address(operation)
			if operation.Credential != api.NoCredential {
				for name, credentials := range map[string]string{
					"none": anonymous, "wrong token": "Token wtp_wrong", "wrong scheme": "Basic " + plane.Token,
					"forged agent": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJwIn0.", "setup key": "Token " + plane.SetupKey,
				} {
					got := ask(t, plane, operation.Method, path, "", "Authorization", credentials)
					if got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") == "" {
						t.Errorf("%s: %d, WWW-Authenticate %q", name, got.status, got.header.Get("WWW-Authenticate"))
					}
					_ = got.problem(t)
				}
			}
			if operation.Credential == api.AgentCredential {
				got := ask(t, plane, operation.Method, path, "")
				if got.status != http.StatusUnauthorized {
					t.Errorf("a user at the agents' door: %d", got.status)
				}
				_ = got.problem(t)
				return // the rest of it is behind a machine key; see the agents' tests
			}
			got := ask(t, plane, "BREW", path, "")
			if strings.HasPrefix(path, "/api/reverse-proxies/") { // nothing but the lists is there
				if got.status != http.StatusNotFound {
					t.Errorf("wrong method: %d", got.status)
				}
				return
			}
			if allow := got.header.Get("Allow"); got.status != http.StatusMethodNotAllowed || !strings.Contains(allow, operation.Method) {
				t.Errorf("wrong method: %d, Allow %q", got.status, allow)
			}
			_ = got.problem(t)
			if operation.NewBody == nil {
				return
			}
			for _, test := range []struct {
				name, body, contentType string
				status                  int
			}{
				{"no body", "", "application/json", 400},
				{"not JSON", `{"name": web}`, "application/json", 400},
				{"a list", `[]`, "application/json", 400},
				{"null", `null`, "application/json", 400},
				{"too big", `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, "application/json", 413},
				{"a form", `name=web`, "application/x-www-form-urlencoded", 415},
			} {
				if test.body == "" && operation.BodyOptional {
					continue
				}
				got := ask(t, plane, operation.Method, path, test.body, "Content-Type", test.contentType)
				if got.status != test.status {
					t.Errorf("%s: %d, want %d: %s", test.name, got.status, test.status, got.body)
				}
				_ = got.problem(t)
			}
			for _, wrong := range wrongTypedBodies(t, operation) {
				got := ask(t, plane, operation.Method, path, wrong.body)
				p := got.problem(t)
				if got.status != http.StatusBadRequest || p.Errors == nil || !strings.HasPrefix((*p.Errors)[0].Field, wrong.field) {
					t.Errorf("%s: %d: %s", wrong.body, got.status, got.body)
				}
			}
		})
	}
}

type wrongBody struct{ field, body string }

// wrongTypedBodies gives each member of a body in turn a value that no type
// of the contract takes.
func wrongTypedBodies(t *testing.T, operation api.Operation) []wrongBody {
	t.Helper()
	var bodies []wrongBody
	for field := range reflect.TypeOf(operation.NewBody()).Elem().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		bodies = append(bodies, wrongBody{field: name, body: `{"` + name + `":[[]]}`})
	}
	return bodies
}

func TestWhatAnybodyMayCall(t *testing.T) {
	var open []string
	for _, operation := range api.Operations {
		if operation.Credential == api.NoCredential {
			open = append(open, operation.ID)
		}
	}
	if diff := cmp.Diff([]string{"AcceptInvite", "EnrollAgent", "GetInstance", "GetInviteInfo", "SetupInstance"}, open); diff != "" {
		t.Errorf("a new operation is open to anybody (-want +got):\n%s", diff)
	}
}

func TestPathsThatDoNotExist(t *testing.T) {
	plane := controlplanetest.New(t)
	for _, path := range []string{"/api", "/api/", "/api/nothing", "/api/groups/", "/api//groups", "/api/groups/../peers", "/agent/v1/nothing", "/api/groups/a/b/c"} {
		if got := ask(t, plane, "GET", path, "", "Authorization", anonymous); got.status != http.StatusUnauthorized {
			t.Errorf("%s, anonymous: %d", path, got.status)
		}
		got := ask(t, plane, "GET", path, "")
		if p := got.problem(t); got.status != http.StatusNotFound || p.Message != "path not found" {
			t.Errorf("%s: %d %s", path, got.status, p.Message)
		}
	}
	if got := ask(t, plane, "GET", "/elsewhere", "", "Authorization", anonymous); got.problem(t).Status != http.StatusNotFound {
		t.Errorf("outside the contract: %d", got.status)
	}
}

func TestTokensInTheQueryAreRefused(t *testing.T) {
	plane := controlplanetest.New(t)
	for _, name := range []string{"token", "access_token"} {
		if got := ask(t, plane, "GET", "/api/groups?"+name+"="+plane.Token, "", "Authorization", anonymous); got.status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, got.status)
		}
	}
}

func TestRequestIDIsEchoedOrMade(t *testing.T) {
	plane := controlplanetest.New(t)
	if got := ask(t, plane, "GET", "/api/groups", "", "X-Request-ID", "trace/42"); got.header.Get("X-Request-ID") != "trace/42" {
		t.Errorf("not echoed: %q", got.header.Get("X-Request-ID"))
	}
	for _, forged := range []string{"", "two words", strings.Repeat("x", 65)} {
		made := ask(t, plane, "GET", "/api/groups", "", "X-Request-ID", forged).header.Get("X-Request-ID")
		if made == "" || made == forged {
			t.Errorf("%q became %q", forged, made)
		}
	}
}

func TestHealthNeedsNoCredentials(t *testing.T) {
	plane := controlplanetest.NewWithoutOwner(t)
	for _, path := range []string{"/livez", "/readyz"} {
		if got := ask(t, plane, "GET", path, "", "Authorization", anonymous); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}

func TestPagesOfAnyOriginMayCall(t *testing.T) {
	plane := controlplanetest.New(t)
	got := ask(t, plane, "OPTIONS", "/api/groups", "", "Authorization", anonymous, "Origin", "https://elsewhere.example", "Access-Control-Request-Method", "PUT")
	if got.status != http.StatusNoContent || got.header.Get("Access-Control-Allow-Origin") != "*" || got.header.Get("Access-Control-Allow-Credentials") != "" ||
		!strings.Contains(got.header.Get("Access-Control-Allow-Methods"), "PUT") || !strings.Contains(got.header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("preflight: %d %v", got.status, got.header)
	}
	for _, credentials := range []string{"Token " + plane.Token, anonymous} { // a page must be able to read problems too
		if got := ask(t, plane, "GET", "/api/groups", "", "Authorization", credentials); got.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%d has no Access-Control-Allow-Origin", got.status)
		}
	}
}

func TestParametersOfWrongTypesAndValues(t *testing.T) {
	plane := controlplanetest.New(t)
	for _, test := range []struct {
		query, field string
		status       int
	}{
		{"limit=many", "limit", 400},
		{"limit=0", "limit", 422},
		{"limit=1001", "limit", 422},
		{"ids=" + strings.Repeat("a,", 200) + "a", "ids", 422},
		{"name=" + strings.Repeat("n", 256), "name", 422},
		{"cursor=nonsense&limit=1", "cursor", 422},
	} {
		got := ask(t, plane, "GET", "/api/policies?"+test.query, "")
		p := got.problem(t)
		if got.status != test.status || p.Errors == nil || (*p.Errors)[0].Field != test.field {
			t.Errorf("%.20s: %d %s", test.query, got.status, got.body)
		}
	}
}

// What is answered without a body to If-None-Match must be what the contract
// offers it for.
func TestConditionalReadsAreThoseOfTheContract(t *testing.T) {
	text, err := os.ReadFile("../../../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var contract struct {
		Paths map[string]map[string]yaml.Node
	}
	if err := yaml.Unmarshal(text, &contract); err != nil {
		t.Fatal(err)
	}
	plane := controlplanetest.New(t)
	group := created(t, plane, "/api/groups", `{"name":"web"}`)
	policy := created(t, plane, "/api/policies", `{"name":"p","rules":[{"name":"r","sources":["`+group+`"],"destinations":["`+group+`"]}]}`)
	key := created(t, plane, "/api/setup-keys", `{"name":"k"}`)
	for _, operation := range api.Operations {
		if operation.Method != http.MethodGet || operation.Credential != api.UserCredential {
			continue
		}
		node := contract.Paths[operation.Path]["get"]
		offered, err := yaml.Marshal(&node)
		if err != nil {
			t.Fatal(err)
		}
		path := strings.NewReplacer("{group_id}", group, "{policy_id}", policy, "{setup_key_id}", key, "{user_id}", plane.OwnerID).Replace(operation.Path)
		if strings.Contains(path, "{") {
			continue
		}
		first := ask(t, plane, "GET", path, "")
		if first.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, first.status, first.body)
			continue
		}
		second := ask(t, plane, "GET", path, "", "If-None-Match", first.header.Get("ETag"))
		isList := bytes.HasPrefix(first.body, []byte("["))
		if want := bytes.Contains(offered, []byte("IfNoneMatch")) || isList; (second.status == http.StatusNotModified) != want {
			t.Errorf("%s: %d to the present ETag %q", operation.ID, second.status, first.header.Get("ETag"))
		}
		if second.status == http.StatusNotModified && len(second.body) != 0 {
			t.Errorf("%s: 304 with a body", operation.ID)
		}
	}
}

// created makes an object and returns its id.
func created(t testing.TB, plane *controlplanetest.Server, path, body string) string {
	t.Helper()
	got := ask(t, plane, "POST", path, body)
	var object struct{ ID string }
	if err := json.Unmarshal(got.body, &object); err != nil || got.status != http.StatusOK || object.ID == "" {
		t.Fatalf("create at %s: %d %s", path, got.status, got.body)
	}
	return object.ID
}

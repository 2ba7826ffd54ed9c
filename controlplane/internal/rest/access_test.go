package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

func TestDryRun(t *testing.T) {
	plane := controlplanetest.New(t)
	group := created(t, plane, "/api/groups", `{"name":"web"}`)
	const policy = `{"name":"p","rules":[{"name":"r","sources":["web"],"destinations":["web"]}]}`
	tried := ask(t, plane, "POST", "/api/policies?dry_run=true", policy, "Idempotency-Key", "k1")
	if tried.status != http.StatusOK || tried.header.Get("Content-Type") != "application/vnd.wattle.access-preview+json" {
		t.Fatalf("a dry run answers %d %v %s", tried.status, tried.header, tried.body)
	}
	if gained, ok := dig(t, tried.body, "gained.count").(float64); !ok || gained != 0 {
		t.Errorf("the preview is %s", tried.body)
	}
	if list := ask(t, plane, "GET", "/api/policies?name=p", ""); strings.TrimSpace(string(list.body)) != "[]" {
		t.Errorf("a dry run stored %s", list.body)
	}
	// The key of a trial is free for the write itself.
	done := ask(t, plane, "POST", "/api/policies?dry_run=false", policy, "Idempotency-Key", "k1")
	if done.status != http.StatusOK || dig(t, done.body, "name") != "p" {
		t.Errorf("the write after its trial answers %d %s", done.status, done.body)
	}
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		detail             string
	}{
		"a fault":                 {"POST", "/api/policies?dry_run=true", `{"name":"q","rules":[]}`, 422, "rules"},
		"an unknown object":       {"DELETE", "/api/groups/nothing?dry_run=true", "", 404, "not found"},
		"a group in use":          {"DELETE", "/api/groups/" + group + "?dry_run=true", "", 400, "linked"},
		"no value":                {"POST", "/api/policies?dry_run=", policy, 422, "dry_run"},
		"twice":                   {"POST", "/api/policies?dry_run=true&dry_run=false", policy, 400, "more than once"},
		"what cannot be tried":    {"POST", "/api/setup-keys?dry_run=true", `{"name":"k","type":"reusable","expires_in":0,"auto_groups":[],"usage_limit":0}`, 422, "cannot be tried"},
		"the first owner":         {"POST", "/api/setup?dry_run=true", `{"email":"a@example.org","password":"12345678","name":"a"}`, 422, "cannot be tried"},
		"reading does not matter": {"GET", "/api/groups?dry_run=true", "", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(t, plane, c.method, c.path, c.body)
			if got.status != c.status || !strings.Contains(string(got.body), c.detail) {
				t.Errorf("answers %d %s, want %d with %q", got.status, got.body, c.status, c.detail)
			}
		})
	}
}

func TestExplainOverHTTP(t *testing.T) {
	plane := controlplanetest.New(t)
	got := ask(t, plane, "POST", "/api/access/explain", `{"source":"a","destination":"b","port":22}`)
	if got.status != http.StatusUnprocessableEntity || len(*got.problem(t).Errors) != 2 {
		t.Errorf("two unknown ends are %d %s", got.status, got.body)
	}
	_, token := serviceToken(t, plane, "user")
	if got := ask(t, plane, "POST", "/api/access/explain", `{"source":"a","destination":"b","port":22}`, "Authorization", "Token "+token); got.status != http.StatusForbidden {
		t.Errorf("a user without the permission gets %d %s", got.status, got.body)
	}
}

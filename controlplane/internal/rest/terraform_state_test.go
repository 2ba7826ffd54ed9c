package rest_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

const stateOfWeb = "/api/terraform/states/web"

func basic(password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("anybody:"+password))
}

// Terraform's http backend speaks basic authentication, and its own methods.
func TestTerraformsHTTPBackend(t *testing.T) {
	plane := controlplanetest.New(t)
	asTerraform := []string{"Authorization", basic(plane.Token), "Content-Type", "application/json"}
	lock := `{"ID":"one","Operation":"OperationTypeApply","Info":"","Who":"anna@laptop","Version":"1.11.4","Created":"2026-01-02T03:04:05Z","Path":""}`
	for _, step := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"nothing there", "GET", stateOfWeb, "", 404},
		{"lock", "LOCK", stateOfWeb, lock, 200},
		{"lock again", "LOCK", stateOfWeb + "/lock", strings.ReplaceAll(lock, "one", "two"), 423},
		{"write without the lock", "POST", stateOfWeb, `{"serial":1,"lineage":"a"}`, 423},
		{"write with another lock", "POST", stateOfWeb + "?ID=two", `{"serial":1,"lineage":"a"}`, 423},
		{"write", "POST", stateOfWeb + "?ID=one", `{"serial":1,"lineage":"a"}`, 200},
		{"write an older one", "POST", stateOfWeb + "?ID=one", `{"serial":0,"lineage":"a"}`, 409},
		{"unlock with another lock", "UNLOCK", stateOfWeb, strings.ReplaceAll(lock, "one", "two"), 423},
		{"unlock", "UNLOCK", stateOfWeb, lock, 200},
		{"read", "GET", stateOfWeb, "", 200},
		{"lock by POST", "POST", stateOfWeb + "/lock", lock, 200},
		{"force-unlock has no body", "DELETE", stateOfWeb + "/lock", "", 200},
		{"restore", "POST", stateOfWeb + "/versions/1/restore", "", 200},
		{"no such version", "GET", stateOfWeb + "/versions/9", "", 404},
		{"delete", "DELETE", stateOfWeb, "", 200},
		{"gone", "GET", stateOfWeb, "", 404},
		{"methods of locks have no place elsewhere", "LOCK", "/api/groups", "", 405},
	} {
		got := ask(t, plane, step.method, step.path, step.body, asTerraform...)
		if step.path == "/api/groups" {
			got = ask(t, plane, step.method, step.path, "")
		}
		if got.status != step.status {
			t.Fatalf("%s: %d, want %d: %s", step.name, got.status, step.status, got.body)
		}
		if got.status >= http.StatusBadRequest {
			_ = got.problem(t)
		}
		if got.status == http.StatusLocked {
			var held api.TerraformLock
			if err := json.Unmarshal(got.body, &held); err != nil || held.ID != "one" || held.Who == nil || *held.Who != "anna@laptop" {
				t.Errorf("%s: Terraform reads the holder as %+v, %v", step.name, held, err)
			}
		}
		if step.name == "read" && (string(got.body) != `{"serial":1,"lineage":"a"}` || got.header.Get("Cache-Control") != "no-store") {
			t.Errorf("read %s, Cache-Control %q", got.body, got.header.Get("Cache-Control"))
		}
	}
}

func TestBasicAuthenticationOpensNothingElse(t *testing.T) {
	plane := controlplanetest.New(t)
	for path, want := range map[string]int{stateOfWeb: 404, "/api/terraform/states": 401, "/api/groups": 401, "/api/terraform/states/../groups": 404} {
		if got := ask(t, plane, "GET", path, "", "Authorization", basic(plane.Token)); got.status != want {
			t.Errorf("%s: %d, want %d", path, got.status, want)
		}
	}
	if got := ask(t, plane, "GET", stateOfWeb, "", "Authorization", basic("wtp_wrong")); got.status != http.StatusUnauthorized {
		t.Errorf("a wrong token: %d", got.status)
	}
}

func TestStateThatIsTooLarge(t *testing.T) {
	plane := controlplanetest.New(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, plane.URL+stateOfWeb, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Token "+plane.Token)
	request.ContentLength = 64<<20 + 1 // told, never sent
	body, never := io.Pipe()
	t.Cleanup(func() { _ = never.Close() })
	request.Body = body
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var p api.Problem
	if err := json.NewDecoder(response.Body).Decode(&p); err != nil || p.Status != http.StatusRequestEntityTooLarge || !strings.Contains(p.Detail, "64 MiB") {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestSDKKeepsStates(t *testing.T) {
	plane := controlplanetest.New(t)
	kept, err := plane.Client.PutTerraformState(t.Context(), "web", []byte(`{"serial":1,"lineage":"a"}`))
	if err != nil || kept.Version != 1 {
		t.Fatal(kept, err)
	}
	if _, err := plane.Client.LockTerraformState(t.Context(), "web", api.TerraformLock{ID: "one"}); err != nil {
		t.Fatal(err)
	}
	_, err = plane.Client.PutTerraformState(t.Context(), "web", []byte(`{"serial":2,"lineage":"a"}`))
	if !sdk.IsLocked(err) {
		t.Errorf("got %v", err)
	}
	if err := plane.Client.UnlockTerraformState(t.Context(), "web", api.TerraformUnlock{}); err != nil {
		t.Fatal(err)
	}
}

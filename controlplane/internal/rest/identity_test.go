package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

// What is out of scope is not there, and says so in JSON; who shows no
// credentials does not even learn that.
func TestAreasThatAreNotThere(t *testing.T) {
	plane := controlplanetest.New(t)
	for _, path := range []string{"clusters", "domains", "services"} {
		got := ask(t, plane, "GET", "/api/reverse-proxies/"+path, "")
		if got.status != http.StatusOK || strings.TrimSpace(string(got.body)) != "[]" {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	for _, request := range []struct{ method, path string }{
		{"GET", "/api/reverse-proxies"},
		{"GET", "/api/reverse-proxies/services/one"},
		{"POST", "/api/reverse-proxies/services"},
		{"DELETE", "/api/reverse-proxies/domains"},
		{"GET", "/api/integrations/billing/usage"},
		{"GET", "/api/integrations/msp/tenants"},
		{"POST", "/api/integrations/okta-scim-idp"},
		{"GET", "/api/integrations/edr/intune"},
		{"POST", "/api/event-streaming"},
		{"GET", "/api/ingress/peers"},
		{"GET", "/api/peers/one/ingress/ports"},
		{"GET", "/api/agent-network/providers"},
		{"GET", "/api"},
	} {
		got := ask(t, plane, request.method, request.path, "")
		p := got.problem(t)
		if got.status != http.StatusNotFound || p.Message != "path not found" {
			t.Errorf("%s %s: %d %q", request.method, request.path, got.status, p.Message)
		}
		got = ask(t, plane, request.method, request.path, "", "Authorization", anonymous)
		_ = got.problem(t)
		if got.status != http.StatusUnauthorized {
			t.Errorf("%s %s without credentials: %d", request.method, request.path, got.status)
		}
	}
}

// The request of the requirements, as it is written there.
func TestIdentityProvidersOfExistingClients(t *testing.T) {
	plane := controlplanetest.New(t)
	const secret = "s3cr3t-of-the-client"
	body := `{"type":"oidc","name":"sso","client_id":"wattle","client_secret":"` + secret + `","issuer":"https://login.example.org/"}`
	made := ask(t, plane, "POST", "/api/identity-providers", body)
	if made.status != http.StatusOK {
		t.Fatalf("%d %s", made.status, made.body)
	}
	id, _ := dig(t, made.body, "id").(string)
	for member, want := range map[string]any{
		"type": "oidc", "name": "sso", "client_id": "wattle", "issuer": "https://login.example.org/", "client_secret": absent{},
	} {
		expect(t, "made", made.body, member, want)
	}
	for _, test := range []struct {
		what, method, path, body string
		status                   int
		member                   string
		want                     any
	}{
		{"read", "GET", "/api/identity-providers/" + id, ``, 200, "client_secret", absent{}},
		{"list", "GET", "/api/identity-providers?name=sso", ``, 200, "0.id", id},
		{"no such name", "GET", "/api/identity-providers?name=other", ``, 200, "0", absent{}},
		{"taken", "POST", "/api/identity-providers", body, 409, "errors.0.field", "name"},
		{"secret absent", "PUT", "/api/identity-providers/" + id, `{"type":"keycloak","name":"sso","client_id":"w","issuer":"https://login.example.org"}`, 200, "version", 2.0},
		{"secret null", "PUT", "/api/identity-providers/" + id, `{"type":"keycloak","name":"sso","client_id":"w","client_secret":null,"issuer":"https://login.example.org"}`, 200, "version", 2.0},
		{"plain issuer", "PUT", "/api/identity-providers/" + id, `{"type":"oidc","name":"sso","client_id":"w","issuer":"http://login.example.org"}`, 422, "errors.0.field", "issuer"},
		{"no issuer", "PUT", "/api/identity-providers/" + id, `{"type":"oidc","name":"sso","client_id":"w"}`, 422, "errors.0.field", "issuer"},
		{"delete", "DELETE", "/api/identity-providers/" + id, ``, 200, "id", absent{}},
		{"deleted", "GET", "/api/identity-providers/" + id, ``, 404, "message", "identity provider not found"},
	} {
		got := ask(t, plane, test.method, test.path, test.body)
		if got.status != test.status {
			t.Errorf("%s: %d, want %d: %s", test.what, got.status, test.status, got.body)
			continue
		}
		expect(t, test.what, got.body, test.member, test.want)
	}
	if events := ask(t, plane, "GET", "/api/events/audit", ""); strings.Contains(string(events.body), secret) {
		t.Error("the audit shows the secret")
	}
}

// A guest of an invite has nothing but its link, at either of its two addresses.
func TestInvitesOverTheAPI(t *testing.T) {
	plane := controlplanetest.New(t)
	made := ask(t, plane, "POST", "/api/users/invites", `{"email":"ada@example.org","name":"Ada","role":"user","auto_groups":[],"expires_in":86400}`, "Idempotency-Key", "k1")
	secret, _ := dig(t, made.body, "invite_token").(string)
	if made.status != http.StatusOK || !strings.HasPrefix(secret, "wti_") || made.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", made.status, made.body)
	}
	again := ask(t, plane, "POST", "/api/users/invites", `{"email":"ada@example.org","name":"Ada","role":"user","auto_groups":[],"expires_in":86400}`, "Idempotency-Key", "k1")
	expect(t, "repeated", again.body, "invite_token", secret)
	id, _ := dig(t, made.body, "id").(string)
	listed := ask(t, plane, "GET", "/api/users/invites", "")
	expect(t, "list", listed.body, "0.id", id)
	expect(t, "list", listed.body, "0.invite_token", absent{})
	link := ask(t, plane, "POST", "/api/users/invites/"+id+"/regenerate", `{}`)
	if link.status != http.StatusOK || link.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", link.status, link.body)
	}
	secret, _ = dig(t, link.body, "invite_token").(string)
	for _, place := range []string{"/api/users/invites/", "/api/invites/"} {
		got := ask(t, plane, "GET", place+secret, "", "Authorization", anonymous)
		if got.status != http.StatusOK || got.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %s", got.status, got.body)
		}
		for member, want := range map[string]any{"email": "ada@example.org", "name": "Ada", "valid": true, "invited_by": "owner", "id": absent{}, "role": absent{}} {
			expect(t, place, got.body, member, want)
		}
		unknown := ask(t, plane, "GET", place+"wti_nothing", "", "Authorization", anonymous)
		if p := unknown.problem(t); unknown.status != http.StatusNotFound || p.Message != "invite not found" {
			t.Errorf("unknown: %d %s", unknown.status, unknown.body)
		}
	}
	accepted := ask(t, plane, "POST", "/api/users/invites/"+secret+"/accept", `{"password":"correct horse"}`, "Authorization", anonymous)
	if accepted.status != http.StatusOK {
		t.Fatalf("%d %s", accepted.status, accepted.body)
	}
	expect(t, "accepted", accepted.body, "success", true)
	person, _ := dig(t, accepted.body, "user_id").(string)
	expect(t, "person", ask(t, plane, "GET", "/api/users/"+person, "").body, "status", "active")
	if got := ask(t, plane, "POST", "/api/invites/"+secret+"/accept", `{"password":"correct horse"}`, "Authorization", anonymous); got.status != http.StatusNotFound {
		t.Errorf("used twice: %d", got.status)
	}
	// The paths of administrators ask for credentials still.
	for _, request := range []struct{ method, path string }{
		{"GET", "/api/users/invites"}, {"DELETE", "/api/users/invites/" + id}, {"POST", "/api/users/invites/" + id + "/regenerate"},
	} {
		if got := ask(t, plane, request.method, request.path, "", "Authorization", anonymous); got.status != http.StatusUnauthorized {
			t.Errorf("%s %s without credentials: %d", request.method, request.path, got.status)
		}
	}
}

package rest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

// The product's requirements call the API like this, curl's own content type
// included; the names of groups stand where their ids would.
func TestCallsOfTheRequirements(t *testing.T) {
	plane := controlplanetest.New(t)
	call := func(method, path, body string) []byte {
		t.Helper()
		got := ask(t, plane, method, path, body, "Authorization", "Token "+plane.Token, "Content-Type", "application/x-www-form-urlencoded")
		if got.status != http.StatusOK {
			t.Fatalf("%s %s %s: %d %s", method, path, body, got.status, got.body)
		}
		return got.body
	}
	group, _ := dig(t, call("POST", "/api/groups", `{"name":"ai-workers"}`), "id").(string)
	key := call("POST", "/api/setup-keys", `{"name":"workers","type":"reusable","expires_in":86400,"auto_groups":["ai-workers"],"usage_limit":50}`)
	expect(t, "setup key", key, "auto_groups.0", group)
	expect(t, "setup key", key, "usage_limit", 50.0)
	policy := `{"name":"w","enabled":true,"rules":[{"name":"r","enabled":true,"sources":["ID"],"destinations":["ID"],"bidirectional":true,"protocol":"all","action":"accept"}]}`
	for _, end := range []string{group, "ai-workers"} {
		made := call("POST", "/api/policies", strings.Replace(strings.ReplaceAll(policy, "ID", end), `"w"`, `"`+end+`"`, 1))
		expect(t, "policy", made, "rules.0.sources.0.id", group)
		expect(t, "policy", made, "rules.0.destinations.0.name", "ai-workers")
	}
	plane.SetupKey, _ = dig(t, key, "key").(string)
	machine := controlplanetest.NewMachine(t, plane)
	var peers []struct {
		ID, Name, IP string
		Connected    *bool
	}
	if err := json.Unmarshal(call("GET", "/api/peers", ""), &peers); err != nil {
		t.Fatal(err)
	}
	if len(peers) != 1 || peers[0].ID != machine.PeerID || peers[0].Name == "" || peers[0].IP == "" || peers[0].Connected == nil {
		t.Errorf("%+v", peers)
	}
	provider := call("POST", "/api/identity-providers", `{"type":"oidc","name":"Company","client_id":"wattle","client_secret":"hush","issuer":"https://id.example.org"}`)
	expect(t, "identity provider", provider, "issuer", "https://id.example.org")
	expect(t, "identity provider", provider, "client_secret", absent{})
}

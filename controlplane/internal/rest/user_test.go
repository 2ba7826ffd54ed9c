package rest_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
)

// serviceToken makes a service user with a role and returns its id and a token.
func serviceToken(t *testing.T, plane *controlplanetest.Server, role string) (id, token string) {
	t.Helper()
	id = created(t, plane, "/api/users", `{"name":"`+role+`","role":"`+role+`","is_service_user":true,"auto_groups":[]}`)
	made := ask(t, plane, "POST", "/api/users/"+id+"/tokens", `{"name":"t","expires_in":1}`)
	token, _ = dig(t, made.body, "plain_token").(string)
	if made.status != http.StatusOK || token == "" {
		t.Fatalf("token of %s: %d %s", role, made.status, made.body)
	}
	return id, token
}

// What the table of roles says is what the server does, at every operation.
func TestRolesAtEveryOperation(t *testing.T) {
	table, err := os.ReadFile("../auth/testdata/roles.golden")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(table)), "\n")
	columns := strings.Fields(lines[0])
	may := map[string]string{} // operation and role -> x or -
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for i, column := range columns[2:] {
			may[cells[0]+" "+column] = cells[i+2]
		}
	}
	plane := controlplanetest.New(t)
	for _, role := range []string{"admin", "network_admin", "auditor", "user", "owner"} {
		token := plane.Token
		if role != "owner" {
			_, token = serviceToken(t, plane, role)
		}
		for _, operation := range api.Operations {
			if operation.Credential != api.UserCredential {
				continue
			}
			body := ""
			if operation.NewBody != nil {
				body = "{}"
			}
			got := ask(t, plane, operation.Method, address(operation), body, "Authorization", "Token "+token)
			lacks := got.status == http.StatusForbidden && got.problem(t).Permission != nil && *got.problem(t).Permission == operation.Permission
			if want := may[operation.ID+" "+role]; lacks != (want == "-") || want == "" {
				t.Errorf("%s by %s: %d %s, the table says %q", operation.ID, role, got.status, got.body, want)
			}
		}
	}
}

// What existing clients send and read of users.
func TestUsersOfExistingClients(t *testing.T) {
	plane := controlplanetest.New(t)
	group := created(t, plane, "/api/groups", `{"name":"web"}`)
	made := ask(t, plane, "POST", "/api/users", `{"email":"ada@example.org","name":"Ada","role":"user","auto_groups":["`+group+`"],"is_service_user":false}`)
	if made.status != http.StatusOK {
		t.Fatalf("%d %s", made.status, made.body)
	}
	id, _ := dig(t, made.body, "id").(string)
	for member, want := range map[string]any{
		"email": "ada@example.org", "name": "Ada", "role": "user", "status": "invited", "auto_groups": []any{group}, "is_current": false, "is_service_user": false,
		"is_blocked": false, "issued": "api", "last_login": "0001-01-01T00:00:00Z", "pending_approval": false,
	} {
		expect(t, "created", made.body, member, want)
	}
	for _, test := range []struct {
		what, method, path, body string
		status                   int
		member                   string
		want                     any
	}{
		{"change", "PUT", "/api/users/" + id, `{"role":"auditor","auto_groups":[],"is_blocked":false}`, 200, "role", "auditor"},
		{"absent name", "PUT", "/api/users/" + id, `{"role":"auditor","auto_groups":[],"is_blocked":false}`, 200, "name", "Ada"},
		{"null name", "PUT", "/api/users/" + id, `{"role":"auditor","auto_groups":[],"is_blocked":false,"name":null}`, 200, "name", ""},
		{"empty groups", "PUT", "/api/users/" + id, `{"role":"auditor","auto_groups":[],"is_blocked":true}`, 200, "auto_groups", []any{}},
		{"blocked", "GET", "/api/users/" + id, ``, 200, "status", "blocked"},
		{"absent groups", "PUT", "/api/users/" + id, `{"role":"auditor","is_blocked":false}`, 400, "errors.0.field", "auto_groups"},
		{"null groups", "PUT", "/api/users/" + id, `{"role":"auditor","auto_groups":null,"is_blocked":false}`, 422, "errors.0.field", "auto_groups"},
		{"absent role", "PUT", "/api/users/" + id, `{"auto_groups":[],"is_blocked":false}`, 422, "errors.0.field", "role"},
		{"absent blocking", "PUT", "/api/users/" + id, `{"auto_groups":[],"role":"user"}`, 422, "errors.0.field", "is_blocked"},
		{"billing_admin", "PUT", "/api/users/" + id, `{"role":"billing_admin","auto_groups":[],"is_blocked":false}`, 422, "errors.0.field", "role"},
		{"own role", "PUT", "/api/users/" + plane.OwnerID, `{"role":"user","auto_groups":[],"is_blocked":false}`, 403, "code", 403.0},
		{"own deletion", "DELETE", "/api/users/" + plane.OwnerID, ``, 422, "code", 422.0},
		{"address taken", "POST", "/api/users", `{"email":"ADA@example.org","role":"user","auto_groups":[]}`, 409, "errors.0.field", "email"},
		{"no address", "POST", "/api/users", `{"role":"user","auto_groups":[]}`, 422, "errors.0.field", "email"},
		{"token of a person", "POST", "/api/users/" + id + "/tokens", `{"name":"t","expires_in":1}`, 403, "code", 403.0},
		{"people", "GET", "/api/users?service_user=false", ``, 200, "1.id", id},
		{"service users", "GET", "/api/users?service_user=true", ``, 200, "0", absent{}},
		{"referrers", "GET", "/api/groups/" + group + "/referrers", ``, 200, "0", absent{}},
		{"delete", "DELETE", "/api/users/" + id, ``, 200, "id", absent{}},
		{"deleted", "GET", "/api/users/" + id, ``, 404, "message", "user not found"},
		{"nested settings", "GET", "/api/accounts", ``, 200, "0.settings.extra.network_traffic_logs_groups", []any{}},
		{"nested settings", "GET", "/api/accounts", ``, 200, "0.settings.peer_login_expiration_enabled", false},
		{"one nested setting", "PUT", "/api/accounts/" + plane.AccountID, `{"settings":{"peer_login_expiration_enabled":false,"peer_login_expiration":null}}`, 200, "settings.peer_login_expiration", 86400.0},
		{"one deep setting", "PUT", "/api/accounts/" + plane.AccountID, `{"settings":{"extra":{"user_approval_required":true}}}`, 200, "settings.extra.user_approval_required", true},
		{"a client that does not know it", "PUT", "/api/accounts/" + plane.AccountID, `{"settings":{"jwt_groups_enabled":true}}`, 200, "settings.extra.user_approval_required", true},
		{"setting out of range", "PUT", "/api/accounts/" + plane.AccountID, `{"settings":{"peer_login_expiration":60}}`, 422, "errors.0.field", "settings.peer_login_expiration"},
		{"flat settings", "GET", "/api/accounts/current/settings", ``, 200, "jwt_allow_groups", []any{}},
	} {
		got := ask(t, plane, test.method, test.path, test.body)
		if got.status != test.status {
			t.Errorf("%s: %d, want %d: %s", test.what, got.status, test.status, got.body)
			continue
		}
		if got.status != http.StatusOK {
			_ = got.problem(t)
		}
		expect(t, test.what, got.body, test.member, test.want)
	}
}

// A token ends with its user, at once.
func TestTokenEndsWithItsUser(t *testing.T) {
	plane := controlplanetest.New(t)
	for _, end := range []string{"PUT", "DELETE"} {
		id, token := serviceToken(t, plane, "auditor")
		asked := func() int {
			return ask(t, plane, "GET", "/api/groups", "", "Authorization", "Token "+token).status
		}
		if got := asked(); got != http.StatusOK {
			t.Fatalf("before: %d", got)
		}
		body := map[string]string{"PUT": `{"role":"auditor","auto_groups":[],"is_blocked":true}`}[end]
		if got := ask(t, plane, end, "/api/users/"+id, body); got.status != http.StatusOK {
			t.Fatalf("%s: %d %s", end, got.status, got.body)
		}
		if got := asked(); got != http.StatusUnauthorized {
			t.Errorf("after %s: %d", end, got)
		}
	}
}

// Each write of users and tokens leaves exactly one audit event, without secrets.
func TestUserWritesAreAudited(t *testing.T) {
	plane := controlplanetest.New(t)
	id, token := serviceToken(t, plane, "auditor")
	ask(t, plane, "DELETE", "/api/users/"+id, "")
	got := ask(t, plane, "GET", "/api/events/audit?limit=3", "")
	var codes []string
	for i := range 3 {
		codes = append(codes, fmt.Sprint(dig(t, got.body, fmt.Sprintf("%d.activity_code", i))))
	}
	if want := []string{"user.delete", "token.create", "user.create"}; !slices.Equal(codes, want) {
		t.Errorf("%v, want %v", codes, want)
	}
	if strings.Contains(string(got.body), token) {
		t.Error("the audit shows a secret")
	}
}

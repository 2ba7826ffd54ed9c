package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

// absent stands for a member that must not be there.
type absent struct{}

// present stands for a member that must be there with any value but null.
type present struct{}

// dig follows a path such as rules.0.sources through a decoded answer.
func dig(t *testing.T, body []byte, path string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	for step := range strings.SplitSeq(path, ".") {
		var there bool
		switch container := value.(type) {
		case map[string]any:
			value, there = container[step]
		case []any:
			var index int
			if _, err := fmt.Sscan(step, &index); err == nil && index < len(container) {
				value, there = container[index], true
			}
		}
		if !there {
			return absent{}
		}
	}
	return value
}

func expect(t *testing.T, what string, body []byte, path string, want any) {
	t.Helper()
	got := dig(t, body, path)
	if _, any := want.(present); any {
		if _, gone := got.(absent); gone || got == nil {
			t.Errorf("%s: %s must be there, is %v", what, path, got)
		}
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %s is %#v, want %#v", what, path, got, want)
	}
}

// Presence and null are traps into which existing clients fall.
func TestPresenceInAnswers(t *testing.T) {
	plane := controlplanetest.New(t)
	group := created(t, plane, "/api/groups", `{"name":"web"}`)
	peer := controlplanetest.NewMachine(t, plane).PeerID
	byGroups := created(t, plane, "/api/policies", `{"name":"groups","rules":[{"name":"r","sources":["`+group+`"],"destinations":["`+group+`"]}]}`)
	byPeer := created(t, plane, "/api/policies", `{"name":"peers","rules":[{"name":"r","protocol":"tcp","ports":["80"],
		"sourceResource":{"id":"`+peer+`","type":"peer"},"destinationResource":{"id":"`+peer+`","type":"peer"}}]}`)
	key := created(t, plane, "/api/setup-keys", `{"name":"k"}`)
	empty := created(t, plane, "/api/posture-checks", `{"name":"v","checks":{"nb_version_check":{"min_version":"0.30.0"}}}`)
	full := created(t, plane, "/api/posture-checks", `{"name":"f","description":"d","checks":{"nb_version_check":null,"os_version_check":{"linux":{"min_kernel_version":"6.1"},"ios":null},
		"geo_location_check":{"action":"deny","locations":[{"country_code":"DE","city_name":""},{"country_code":"FR","city_name":"Paris"}]},
		"process_check":{"processes":[{"linux_path":"/bin/a","mac_path":"","windows_path":null}]}}}`)
	checked := created(t, plane, "/api/policies", `{"name":"checked","source_posture_checks":["`+full+`"],"rules":[{"name":"r","sources":["`+group+`"],"destinations":["`+group+`"]}]}`)
	zone := created(t, plane, "/api/dns/zones", `{"name":"z","domain":"corp.example","distribution_groups":["All"]}`)
	record := created(t, plane, "/api/dns/zones/"+zone+"/records", `{"name":"a.corp.example","type":"A","content":"192.0.2.1"}`)
	servers := created(t, plane, "/api/dns/nameservers", `{"name":"n","nameservers":[{"ip":"192.0.2.53"}],"groups":["All"],"domains":null,"primary":true}`)
	none, zero := []any{}, "0001-01-01T00:00:00Z"

	for path, members := range map[string]map[string]any{
		"/api/policies/" + byGroups: {
			"id": byGroups, "description": "", "rules.0.id": present{}, "rules.0.description": "", "rules.0.sources": present{}, "rules.0.destinations": present{},
			"rules.0.sourceResource": absent{}, "rules.0.destinationResource": absent{}, "rules.0.ports": absent{}, "rules.0.port_ranges": absent{},
			"rules.0.sources.0.name": "web", "rules.0.enabled": true, "rules.0.bidirectional": true, "rules.0.action": "accept", "rules.0.protocol": "all",
		},
		"/api/posture-checks/" + empty: {
			"id": empty, "description": absent{}, "checks.nb_version_check.min_version": "0.30.0", "checks.os_version_check": absent{},
			"checks.geo_location_check": absent{}, "checks.peer_network_range_check": absent{}, "checks.process_check": absent{},
		},
		"/api/posture-checks/" + full: {
			"description": "d", "checks.nb_version_check": absent{}, "checks.os_version_check.linux.min_kernel_version": "6.1", "checks.os_version_check.ios": absent{},
			"checks.os_version_check.darwin": absent{}, "checks.geo_location_check.action": "deny", "checks.geo_location_check.locations.0.city_name": absent{},
			"checks.geo_location_check.locations.1.city_name": "Paris", "checks.process_check.processes.0.linux_path": "/bin/a",
			"checks.process_check.processes.0.mac_path": absent{}, "checks.process_check.processes.0.windows_path": absent{},
		},
		"/api/policies/" + checked: {"source_posture_checks": []any{full}},
		"/api/locations/countries": {"0.country_code": "AD", "0.country_name": "Andorra"},
		"/api/policies/" + byPeer: {
			"source_posture_checks": none,
			"rules.0.sources":       absent{}, "rules.0.destinations": absent{}, "rules.0.sourceResource.id": peer, "rules.0.destinationResource.type": "peer",
			"rules.0.ports": []any{"80"}, "rules.0.port_ranges": absent{},
		},
		"/api/groups/" + group: {"peers": none, "resources": none, "peers_count": 0.0, "resources_count": 0.0, "issued": "api"},
		"/api/setup-keys/" + key: {
			"auto_groups": none, "expires": zero, "last_used": zero, "expires_in": 0.0, "usage_limit": 1.0, "type": "one-off", "state": "valid", "valid": true, "revoked": false,
		},
		"/api/dns/nameservers/" + servers: {
			"description": "", "domains": none, "primary": true, "enabled": true, "search_domains_enabled": false, "groups.0": present{},
			"nameservers.0.ip": "192.0.2.53", "nameservers.0.ns_type": "udp", "nameservers.0.port": 53.0, "nameservers.0.tls_name": "",
		},
		"/api/dns/settings": {"disabled_management_groups": none},
		"/api/dns/zones/" + zone: {
			"enabled": true, "enable_search_domain": false, "records.0.name": "a.corp.example", "records.0.id": record, "records.0.ttl": 300.0, "distribution_groups.0": present{},
		},
		"/api/dns/zones/" + zone + "/records/" + record: {"name": "a.corp.example", "type": "A", "content": "192.0.2.1", "ttl": 300.0},
		"/api/users": {
			"0.is_current": true, "0.is_service_user": false, "0.issued": present{}, "0.last_login": present{}, "0.auto_groups": none, "0.role": "owner",
		},
		"/api/users/current":             {"is_current": true, "permissions.modules.groups.delete": true, "permissions.is_restricted": false},
		"/api/accounts":                  {"0.settings.extra": present{}, "0.id": plane.AccountID, "1": absent{}},
		"/api/accounts/current/settings": {"network_range": present{}, "dns_domain": present{}},
		"/api/peers/" + peer:             {"setup_key_id": present{}, "user_id": "", "extra_dns_labels": none, "groups.0.name": "All"},
		"/api/users/" + plane.OwnerID + "/tokens": {
			"0.plain_token": absent{}, "0.created_at": present{}, "0.expiration_date": present{}, "0.expires_in": present{},
		},
	} {
		got := ask(t, plane, "GET", path, "")
		if got.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, got.status, got.body)
			continue
		}
		for member, want := range members {
			expect(t, path, got.body, member, want)
		}
	}
}

func TestSecretsAreInTheAnswerThatMakesThem(t *testing.T) {
	plane := controlplanetest.New(t)
	made := ask(t, plane, "POST", "/api/setup-keys", `{"name":"k"}`)
	secret, _ := dig(t, made.body, "key").(string)
	if !strings.HasPrefix(secret, "wtk_") || made.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s, Cache-Control %q", made.body, made.header.Get("Cache-Control"))
	}
	later := ask(t, plane, "GET", "/api/setup-keys/"+dig(t, made.body, "id").(string), "")
	masked, _ := dig(t, later.body, "key").(string)
	if !strings.HasPrefix(masked, secret[:5]) || strings.Trim(masked[5:], "*") != "" {
		t.Errorf("read later as %q", masked)
	}
	token := ask(t, plane, "POST", "/api/users/"+plane.OwnerID+"/tokens", `{"name":"t","expires_in":1}`)
	plain, _ := dig(t, token.body, "plain_token").(string)
	if !strings.HasPrefix(plain, "wtp_") || token.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s", token.body)
	}
	expect(t, "token", token.body, "personal_access_token.id", dig(t, token.body, "id"))
	if got := ask(t, plane, "GET", "/api/users/current", "", "Authorization", "bearer "+plain); got.status != http.StatusOK {
		t.Errorf("the new token: %d", got.status)
	}
	if got := ask(t, plane, "DELETE", "/api/users/"+plane.OwnerID+"/tokens/"+dig(t, token.body, "id").(string), ""); got.status != http.StatusOK || strings.TrimSpace(string(got.body)) != "{}" {
		t.Errorf("delete: %d %s", got.status, got.body)
	}
	if got := ask(t, plane, "GET", "/api/users/current", "", "Authorization", "Bearer "+plain); got.status != http.StatusUnauthorized {
		t.Errorf("the deleted token: %d", got.status)
	}
}

// Absent, null and empty members of a PUT, by kind of field.
func TestAbsentAndNullInRequests(t *testing.T) {
	plane := controlplanetest.New(t)
	peer := controlplanetest.NewMachine(t, plane).PeerID
	group := created(t, plane, "/api/groups", `{"name":"web","peers":["`+peer+`"]}`)
	key := created(t, plane, "/api/setup-keys", `{"name":"k","auto_groups":["`+group+`"]}`)
	policy := created(t, plane, "/api/policies", `{"name":"p","description":"d","enabled":false,"rules":[{"name":"r","sources":["`+group+`"],"destinations":["`+group+`"]}]}`)
	posture := created(t, plane, "/api/posture-checks", `{"name":"c","description":"d","checks":{"process_check":{"processes":[{"linux_path":"/a"}]}}}`)
	rule := func(members string) string {
		return `{"name":"p","rules":[{"name":"r","sources":["` + group + `"],"destinations":["` + group + `"]` + members + `}]}`
	}
	for _, test := range []struct {
		what, path, body string
		status           int
		member           string
		want             any
	}{
		{"required list absent", "/api/setup-keys/" + key, `{}`, 400, "errors.0.field", "auto_groups"},
		{"required list null", "/api/setup-keys/" + key, `{"auto_groups":null}`, 422, "errors.0.field", "auto_groups"},
		{"required list empty", "/api/setup-keys/" + key, `{"auto_groups":[]}`, 200, "auto_groups", []any{}},
		{"required text absent", "/api/groups/" + group, `{}`, 422, "errors.0.field", "name"},
		{"required text empty", "/api/groups/" + group, `{"name":""}`, 422, "errors.0.field", "name"},
		{"opt-in list absent", "/api/groups/" + group, `{"name":"web"}`, 200, "peers.0.id", peer},
		{"opt-in list null", "/api/groups/" + group, `{"name":"web","peers":null}`, 200, "peers.0.id", peer},
		{"opt-in list empty", "/api/groups/" + group, `{"name":"web","peers":[]}`, 200, "peers", []any{}},
		{"defaults absent", "/api/policies/" + policy, rule(""), 200, "enabled", true},
		{"defaults null", "/api/policies/" + policy, rule(`,"enabled":null,"action":null,"protocol":null`), 200, "rules.0.protocol", "all"},
		{"posture description null", "/api/posture-checks/" + posture, `{"name":"c","description":null,"checks":{"nb_version_check":{"min_version":"1"}}}`, 200, "description", absent{}},
		{"posture checks absent", "/api/posture-checks/" + posture, `{"name":"c"}`, 422, "errors.0.field", "checks"},
		{"posture checks empty", "/api/posture-checks/" + posture, `{"name":"c","checks":{}}`, 422, "errors.0.field", "checks"},
		{"posture checks null", "/api/posture-checks/" + posture, `{"name":"c","checks":{"nb_version_check":null}}`, 422, "errors.0.field", "checks"},
		{"unknown posture check", "/api/policies/" + policy, rule(`}],"source_posture_checks":["nope"],"x":[{"y":1`), 422, "errors.0.field", "source_posture_checks[0]"},
		{"description absent", "/api/policies/" + policy, rule(""), 200, "description", ""},
		{"nullables null", "/api/policies/" + policy, rule(`,"sourceResource":null,"destinationResource":null,"ports":null,"port_ranges":null`), 200, "rules.0.ports", absent{}},
		{"nullables empty", "/api/policies/" + policy, rule(`,"ports":[],"port_ranges":[]`), 200, "rules.0.port_ranges", absent{}},
		{"settings absent", "/api/accounts/" + plane.AccountID, `{"settings":{"extra":{}}}`, 200, "settings.extra", present{}},
		{"unknown group in a body", "/api/setup-keys/" + key, `{"auto_groups":["nope"]}`, 422, "errors.0.field", "auto_groups[0]"},
	} {
		got := ask(t, plane, "PUT", test.path, test.body)
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

func TestMembersComeBackInTheOrderSent(t *testing.T) {
	plane := controlplanetest.New(t)
	var peers []string
	for range 3 {
		peers = append(peers, controlplanetest.NewMachine(t, plane).PeerID)
	}
	order := `["` + peers[2] + `","` + peers[0] + `","` + peers[1] + `"]`
	group := created(t, plane, "/api/groups", `{"name":"web","peers":`+order+`}`)
	got := ask(t, plane, "GET", "/api/groups/"+group, "")
	for i, want := range []string{peers[2], peers[0], peers[1]} {
		expect(t, "group", got.body, fmt.Sprintf("peers.%d.id", i), want)
	}
}

func TestUnknownMembersAreIgnoredUnlessStrict(t *testing.T) {
	plane := controlplanetest.New(t)
	body := `{"name":"web","color":"red"}`
	got := ask(t, plane, "POST", "/api/groups?strict=true", body)
	if p := got.problem(t); got.status != http.StatusUnprocessableEntity || p.Errors == nil || (*p.Errors)[0].Field != "color" {
		t.Errorf("strict: %d %s", got.status, got.body)
	}
	created(t, plane, "/api/groups", body)
}

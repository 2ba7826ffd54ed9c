package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
)

// hostileBodies break parsers rather than rules.
func hostileBodies() []string {
	const half = 32 << 10
	huge := "1" + strings.Repeat("0", 4000)
	return []string{
		// deep nesting, closed and open, 64 KiB of it
		strings.Repeat("[", half) + strings.Repeat("]", half),
		strings.Repeat("[", 2*half),
		strings.Repeat(`{"name":`, 2*half/8),
		`{"name":` + strings.Repeat("[", half) + strings.Repeat("]", half) + `}`,
		`{"rules":` + strings.Repeat(`[{"rules":`, half/10) + `[]` + strings.Repeat(`}]`, half/10) + `,"name":"p"}`,
		`{"unknown":` + strings.Repeat(`{"a":`, 9990) + `1` + strings.Repeat(`}`, 9990) + `,"name":"g"}`,
		// the same key twice, with other types and other cases
		`{"name":"a","name":"b","name":1}`, `{"name":1,"name":"a"}`, `{"NAME":"a","Name":["b"],"name":"c"}`,
		`{"name":"p","rules":[],"rules":{},"rules":[{"name":"r","name":null,"sources":["All"],"sources":[1],"destinations":["All"]}]}`,
		`{"auto_groups":["All"],"auto_groups":null}`, `{"settings":{},"settings":[]}`,
		// no UTF-8, and characters that are none
		"{\"name\":\"\xff\xfe\"}", "{\"\xc3\x28\":1}", "\xef\xbb\xbf{\"name\":\"bom\"}", "{\"name\":\"\xed\xa0\x80\"}",
		`{"name":"\udfff\ud800"}`, `{"name":"\u0000\u0001\u202e"}`, "{\"name\":\"a\x00b\"}",
		// numbers that no type holds
		`{"name":"k","expires_in":` + huge + `}`, `{"name":"k","expires_in":1e999999999}`, `{"name":"k","expires_in":-0}`, `{"name":"k","usage_limit":1e3}`,
		`{"name":"k","usage_limit":0.1e1}`, `{"name":"t","expires_in":` + strings.Repeat("9", half) + `}`, `{"name":"k","expires_in":NaN}`,
		`{"name":"p","rules":[{"name":"r","sources":["All"],"destinations":["All"],"protocol":"tcp","port_ranges":[{"start":` + huge + `,"end":-` + huge + `}]}]}`,
	}
}

// No body that anybody can send is a fault of the server.
func FuzzNoBodyIsAnInternalError(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"name":null}`, `{"name":"\u0000"}`, `{"name":"\ud800","peers":[""]}`, `{"name":"a","peers":["` + strings.Repeat("x", 64) + `"]}`,
		`{"name":"p","rules":[{"name":"r","sources":["All"],"destinations":["All"],"ports":["80"],"protocol":"tcp"}]}`,
		`{"name":"p","rules":[{"name":"r","sources":[],"destinations":null,"sourceResource":{"id":"","type":"peer"}}]}`,
		`{"name":"p","rules":[{"name":"r"},{"name":"r"}]}`, `{"name":"p","rules":[{"id":"x","name":"r","port_ranges":[{"start":9,"end":1}]}]}`,
		`{"name":"k","expires_in":-1,"usage_limit":9223372036854775807}`, `{"auto_groups":["All","All",""],"revoked":true}`,
		`{"name":"t","expires_in":366}`, `{"peer_id":""}`, `{"settings":{"extra":null}}`, `{"settings":{"network_range":"0.0.0.0/0","extra":{}}}`,
		`{"network_range":"300.1.1.1/8","dns_domain":"..","peer_approval_enabled":"x"}`, `{"ip":"::1","name":""}`,
		`{"name":"z","domain":"a.b","distribution_groups":["All",""],"enabled":null}`, `{"name":"*.*","type":"A","content":"1.2.3.4.5","ttl":-1}`,
		`{"name":"a.corp.example","type":"CNAME","content":"` + strings.Repeat("a.", 200) + `"}`, `{"disabled_management_groups":[null,"All","All"]}`,
		`{"name":"n","nameservers":[{"ip":"::ffff:1.2.3.4%1","ns_type":null,"port":70000},null],"groups":["All"],"domains":["xn--\u0000"],"primary":true}`,
		`{"email":"a@b","password":"12345678","name":"x","pat_expire_in":0}`,
		`{"email":null,"is_service_user":true,"role":"owner","auto_groups":["All"],"is_blocked":null}`, `{"email":"@","role":"user","auto_groups":[],"is_blocked":true}`,
		`{"settings":{"jwt_allow_groups":[null],"peer_login_expiration":-1,"extra":{"network_traffic_logs_groups":null}}}`,
		`{"setup_key":"wtk_x","machine_key":"` + strings.Repeat("A", 43) + `=","wireguard_key":"` + strings.Repeat("A", 43) + `=","proof":"a.b.c","facts":{"hostname":"","os":"","arch":"","kernel_version":"","agent_version":""}}`,
	} {
		f.Add(seed)
	}
	for _, seed := range hostileBodies() {
		f.Add(seed)
	}
	plane := controlplanetest.New(f)
	group := created(f, plane, "/api/groups", `{"name":"target"}`)
	policy := created(f, plane, "/api/policies", `{"name":"target","rules":[{"name":"r","sources":["`+group+`"],"destinations":["`+group+`"]}]}`)
	key := created(f, plane, "/api/setup-keys", `{"name":"target"}`)
	peer := controlplanetest.NewMachine(f, plane).PeerID
	zone := created(f, plane, "/api/dns/zones", `{"name":"target","domain":"corp.example","distribution_groups":["All"]}`)
	record := created(f, plane, "/api/dns/zones/"+zone+"/records", `{"name":"a.corp.example","type":"A","content":"192.0.2.1"}`)
	servers := created(f, plane, "/api/dns/nameservers", `{"name":"target","nameservers":[{"ip":"192.0.2.53"}],"groups":["All"],"primary":true}`)
	places := strings.NewReplacer("{user_id}", plane.OwnerID, "{account_id}", plane.AccountID, "{group_id}", group,
		"{policy_id}", policy, "{setup_key_id}", key, "{peer_id}", peer,
		"{zone_id}", zone, "{record_id}", record, "{nameserver_group_id}", servers)
	f.Fuzz(func(t *testing.T, body string) {
		for _, operation := range api.Operations {
			if operation.NewBody == nil || operation.Credential == api.AgentCredential {
				continue
			}
			got := ask(t, plane, operation.Method, places.Replace(operation.Path), body, "Content-Type", "application/json")
			if got.status >= http.StatusInternalServerError {
				t.Errorf("%s answers %d to %s: %s", operation.ID, got.status, body, got.body)
			}
			if got.status >= http.StatusBadRequest {
				_ = got.problem(t)
			}
		}
	})
}

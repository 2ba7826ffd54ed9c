package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

// A call is one request and what has to come back.
type call struct {
	what, method, path, body string
	status                   int
	member                   string
	want                     any
}

// try sends the requests one after the other.
func try(t *testing.T, plane *controlplanetest.Server, calls []call) {
	t.Helper()
	for _, c := range calls {
		got := ask(t, plane, c.method, c.path, c.body)
		if got.status != c.status {
			t.Errorf("%s: %d, want %d: %s", c.what, got.status, c.status, got.body)
			continue
		}
		if got.status != http.StatusOK {
			_ = got.problem(t)
		}
		expect(t, c.what, got.body, c.member, c.want)
	}
}

// What existing clients send and read of networks, their resources and routers.
func TestNetworksOfExistingClients(t *testing.T) {
	plane := controlplanetest.New(t)
	peer := controlplanetest.NewMachine(t, plane).PeerID
	group := created(t, plane, "/api/groups", `{"name":"web"}`)
	network := created(t, plane, "/api/networks", `{"name":"lan","description":null}`)
	other := created(t, plane, "/api/networks", `{"name":"lab","description":"Where we try."}`)
	at := "/api/networks/" + network
	resource := created(t, plane, at+"/resources", `{"name":"printer","address":"10.0.0.5","groups":["web"],"enabled":true,"description":""}`)
	router := created(t, plane, at+"/routers", `{"peer":"`+peer+`","peer_groups":null,"metric":100,"masquerade":true,"enabled":true}`)
	policy := created(t, plane, "/api/policies", `{"name":"print","rules":[{"name":"r","sources":["All"],"destinationResource":{"id":"`+resource+`","type":"host"}}]}`)
	byGroup := created(t, plane, "/api/policies", `{"name":"browse","rules":[{"name":"r","sources":["All"],"destinations":["web"]}]}`)

	for path, members := range map[string]map[string]any{
		at: {
			"description": "", "resources": []any{resource}, "routers": []any{router}, "policies": []any{policy, byGroup}, "routing_peers_count": 1.0,
		},
		"/api/networks/" + other: {"description": "Where we try.", "resources": []any{}, "routers": []any{}, "policies": []any{}, "routing_peers_count": 0.0},
		at + "/resources/" + resource: {
			"address": "10.0.0.5", "type": "host", "description": "", "enabled": true, "network_id": network, "groups.0.id": group, "groups.0.name": "web",
			"groups.0.resources_count": 1.0, "groups.0.peers_count": 0.0,
		},
		at + "/routers/" + router: {"peer": peer, "peer_groups": absent{}, "metric": 100.0, "masquerade": true, "enabled": true},
		"/api/networks/routers":   {"0.id": router, "1": absent{}},
		"/api/groups/" + group:    {"resources": []any{map[string]any{"id": resource, "type": "host"}}, "resources_count": 1.0, "peers": []any{}},
		"/api/policies/" + policy: {
			"rules.0.destinationResource": map[string]any{"id": resource, "type": "host"}, "rules.0.destinations": absent{}, "rules.0.sources.0.name": "All",
		},
		"/api/policies/" + byGroup: {"rules.0.destinations.0.resources_count": 1.0},
	} {
		got := ask(t, plane, "GET", path, "")
		for member, want := range members {
			expect(t, path, got.body, member, want)
		}
	}
	try(t, plane, []call{
		{"by name", "GET", "/api/networks?name=lab", ``, 200, "0.id", other},
		{"no such name", "GET", "/api/networks?name=none", ``, 200, "0", absent{}},
		{"by ids", "GET", at + "/resources?ids=" + resource, ``, 200, "0.id", resource},
		{"a resource by name", "GET", at + "/resources?name=none", ``, 200, "0", absent{}},
		{"routers of another network", "GET", "/api/networks/" + other + "/routers", ``, 200, "0", absent{}},

		{"wrong parent", "GET", "/api/networks/" + other + "/resources/" + resource, ``, 404, "message", "network resource not found"},
		{"wrong parent", "PUT", "/api/networks/" + other + "/resources/" + resource, `{"name":"x","address":"10.0.0.5"}`, 404, "message", "network resource not found"},
		{"wrong parent", "DELETE", "/api/networks/" + other + "/routers/" + router, ``, 404, "message", "network router not found"},
		{"no parent", "GET", "/api/networks/none/resources", ``, 404, "message", "network not found"},
		{"no parent", "POST", "/api/networks/none/resources", `{"name":"x","address":"10.0.0.5"}`, 404, "message", "network not found"},
		{"no parent", "POST", "/api/networks/none/routers", `{"peer":"` + peer + `"}`, 404, "message", "network not found"},

		{"host bits", "POST", at + "/resources", `{"name":"x","address":"10.0.0.1/8"}`, 422, "errors.0.detail", "must be written as 10.0.0.0/8"},
		{"upper case", "POST", at + "/resources", `{"name":"x","address":"*.Example.org"}`, 422, "errors.0.detail", "must be written as *.example.org"},
		{"long form", "POST", at + "/resources", `{"name":"x","address":"fd00:0:0::1"}`, 422, "errors.0.detail", "must be written as fd00::1"},
		{"no address", "POST", at + "/resources", `{"name":"x","address":"10.0.0.256"}`, 422, "errors.0.field", "address"},
		{"name taken", "POST", "/api/networks/" + other + "/resources", `{"name":"printer","address":"10.0.0.6"}`, 409, "errors.0.field", "name"},
		{"unknown group", "POST", at + "/resources", `{"name":"x","address":"10.0.0.6","groups":["web","none"]}`, 422, "errors.0.field", "groups[1]"},
		{"group twice", "POST", at + "/resources", `{"name":"x","address":"10.0.0.6","groups":["web","` + group + `"]}`, 422, "errors.0.field", "groups[1]"},
		{"the group All", "POST", at + "/resources", `{"name":"x","address":"10.0.0.6","groups":["All"]}`, 422, "errors.0.field", "groups[0]"},
		{"with the length", "PUT", at + "/resources/" + resource, `{"name":"printer","address":"10.0.0.5/32","groups":["web"]}`, 200, "address", "10.0.0.5/32"},
		{"still a host", "GET", at + "/resources/" + resource, ``, 200, "type", "host"},
		{"no groups", "PUT", at + "/resources/" + resource, `{"name":"printer","address":"10.0.0.5"}`, 200, "groups", []any{}},
		{"and none in the group", "GET", "/api/groups/" + group, ``, 200, "resources_count", 0.0},
		{"a domain", "PUT", at + "/resources/" + resource, `{"name":"printer","address":"*.example.org","groups":["` + group + `"]}`, 200, "type", "domain"},

		{"both", "POST", at + "/routers", `{"peer":"` + peer + `","peer_groups":["web"]}`, 422, "errors.0.field", "peer"},
		{"neither", "POST", at + "/routers", `{"peer":"","peer_groups":[]}`, 422, "errors.0.field", "peer"},
		{"unknown peer", "POST", at + "/routers", `{"peer":"none"}`, 422, "errors.0.field", "peer"},
		{"unknown group", "POST", at + "/routers", `{"peer_groups":["none"]}`, 422, "errors.0.field", "peer_groups[0]"},
		{"metric", "POST", at + "/routers", `{"peer":"` + peer + `","metric":10000}`, 422, "errors.0.field", "metric"},
		{"groups route", "PUT", at + "/routers/" + router, `{"peer":"","peer_groups":["web"]}`, 200, "peer_groups", []any{group}},
		{"and no peer does", "GET", at + "/routers/" + router, ``, 200, "peer", absent{}},
		{"and nobody routes", "GET", at, ``, 200, "routing_peers_count", 0.0},
		{"defaults", "GET", at + "/routers/" + router, ``, 200, "metric", 9999.0},

		{"wrong type", "PUT", "/api/policies/" + policy, `{"name":"print","rules":[{"name":"r","sources":["All"],"destinationResource":{"id":"` + resource + `","type":"host"}}]}`, 422, "errors.0.field", "rules[0].destinationResource.type"},
		{"no peer", "PUT", "/api/policies/" + policy, `{"name":"print","rules":[{"name":"r","sourceResource":{"id":"` + resource + `","type":"peer"},"destinations":["All"]}]}`, 422, "errors.0.field", "rules[0].sourceResource.type"},
		{"unknown resource", "PUT", "/api/policies/" + policy, `{"name":"print","rules":[{"name":"r","sourceResource":{"id":"none","type":"host"},"destinations":["All"]}]}`, 422, "errors.0.field", "rules[0].sourceResource.id"},
		{"right type", "PUT", "/api/policies/" + policy, `{"name":"print","rules":[{"name":"r","sources":["All"],"destinationResource":{"id":"` + resource + `","type":"domain"}}]}`, 200, "rules.0.destinationResource.type", "domain"},

		{"group in use", "DELETE", "/api/groups/" + group, ``, 400, "referrers.0.type", "network-resource"},
		{"resource in use", "DELETE", at + "/resources/" + resource, ``, 412, "referrers.0.name", "print"},
		{"network in use", "DELETE", at, ``, 412, "referrers.0.field", "rules.destinationResource"},
		{"referrers", "GET", at + "/referrers", ``, 200, "0.id", policy},
		{"router of a peer", "PUT", at + "/routers/" + router, `{"peer":"` + peer + `"}`, 200, "peer_groups", absent{}},
		{"peer that routes", "DELETE", "/api/peers/" + peer, ``, 412, "referrers.0.type", "network-router"},
		{"policy goes", "DELETE", "/api/policies/" + policy, ``, 200, "id", absent{}},
		{"no referrers", "GET", at + "/referrers", ``, 200, "0", absent{}},
		{"stays", "PUT", at, `{"name":"lan"}`, 200, "resources", []any{resource}},
		{"with all that is in it", "DELETE", at, ``, 200, "id", absent{}},
		{"gone", "GET", at + "/resources/" + resource, ``, 404, "code", 404.0},
		{"gone", "GET", "/api/networks/routers", ``, 200, "0", absent{}},
		{"gone from the group", "GET", "/api/groups/" + group, ``, 200, "resources", []any{}},
		{"its name is free", "POST", "/api/networks/" + other + "/resources", `{"name":"printer","address":"fd00::/8"}`, 200, "type", "subnet"},
		{"peer routes no more", "DELETE", "/api/peers/" + peer, ``, 200, "id", absent{}},
		{"audit", "GET", "/api/events/audit?limit=3", ``, 200, "2.before.resources.0.address", "*.example.org"},
	})
}

// A group and its network resources are the same edges from both sides.
func TestResourcesOfGroups(t *testing.T) {
	plane := controlplanetest.New(t)
	network := created(t, plane, "/api/networks", `{"name":"lan"}`)
	at := "/api/networks/" + network + "/resources"
	one := created(t, plane, at, `{"name":"one","address":"10.0.0.1"}`)
	two := created(t, plane, at, `{"name":"two","address":"10.2.0.0/16"}`)
	three := created(t, plane, at, `{"name":"three","address":"three.example.org"}`)
	ref := func(id, kind string) string { return `{"id":"` + id + `","type":"` + kind + `"}` }
	group := created(t, plane, "/api/groups", `{"name":"web","resources":[`+ref(three, "domain")+`,`+ref(one, "host")+`]}`)
	path := "/api/groups/" + group
	shown := func(refs ...string) []any {
		var list []any
		for i := range len(refs) / 2 {
			list = append(list, map[string]any{"id": refs[2*i], "type": refs[2*i+1]})
		}
		return list
	}
	try(t, plane, []call{
		{"the order sent", "GET", path, ``, 200, "resources", shown(three, "domain", one, "host")},
		{"from the other side", "GET", at + "/" + one, ``, 200, "groups.0.resources_count", 2.0},
		{"a change of the resource", "GET", at + "/" + one, ``, 200, "version", 2.0},
		{"absent", "PUT", path, `{"name":"web"}`, 200, "resources_count", 2.0},
		{"null", "PUT", path, `{"name":"web","resources":null}`, 200, "resources_count", 2.0},
		{"another order", "PUT", path, `{"name":"web","resources":[` + ref(two, "subnet") + `,` + ref(three, "domain") + `]}`, 200, "resources", shown(two, "subnet", three, "domain")},
		{"gone from it", "GET", at + "/" + one, ``, 200, "groups", []any{}},
		{"wrong type", "PUT", path, `{"name":"web","resources":[` + ref(two, "host") + `]}`, 422, "errors.0.field", "resources[0].type"},
		{"unknown", "PUT", path, `{"name":"web","resources":[` + ref("none", "host") + `]}`, 422, "errors.0.field", "resources[0].id"},
		{"twice", "PUT", path, `{"name":"web","resources":[` + ref(two, "subnet") + `,` + ref(two, "subnet") + `]}`, 422, "errors.0.field", "resources[1].id"},
		{"all faults", "PUT", path, `{"name":"web","peers":["none"],"resources":[` + ref("none", "host") + `]}`, 422, "errors.1.field", "resources[0].id"},
		{"unchanged", "GET", path, ``, 200, "version", 2.0},

		{"add", "POST", path + "/resources", `{"resource_id":"` + one + `"}`, 200, "group_id", group},
		{"add again", "POST", path + "/resources", `{"resource_id":"` + one + `"}`, 200, "resource_id", one},
		{"one change", "GET", path, ``, 200, "version", 3.0},
		{"list", "GET", path + "/resources", ``, 200, "2.resource_id", one},
		{"page", "GET", path + "/resources?limit=1", ``, 200, "1", absent{}},
		{"read", "GET", path + "/resources/" + one, ``, 200, "resource_id", one},
		{"remove", "DELETE", path + "/resources/" + two, ``, 200, "id", absent{}},
		{"remove again", "DELETE", path + "/resources/" + two, ``, 200, "id", absent{}},
		{"removed", "GET", path + "/resources/" + two, ``, 404, "message", "network resource not found"},
		{"what is left", "GET", path, ``, 200, "resources", shown(three, "domain", one, "host")},
		{"no such group", "GET", "/api/groups/none/resources", ``, 404, "message", "group not found"},
		{"no such resource", "POST", path + "/resources", `{"resource_id":"none"}`, 422, "errors.0.field", "resource_id"},
		{"another type", "PUT", at + "/" + one, `{"name":"one","address":"10.0.0.0/24","groups":["web"]}`, 200, "type", "subnet"},
		{"is a change of the group", "GET", path, ``, 200, "version", 5.0},
		{"another description", "PUT", at + "/" + one, `{"name":"one","address":"10.0.0.0/24","groups":["web"],"description":"x"}`, 200, "version", 6.0},
		{"is none", "GET", path, ``, 200, "version", 5.0},
		{"none", "PUT", path, `{"name":"web","resources":[]}`, 200, "resources", []any{}},
		{"not in use", "DELETE", path, ``, 200, "id", absent{}},
	})
	all := ask(t, plane, "GET", "/api/groups?name=All", "")
	id, _ := dig(t, all.body, "0.id").(string)
	try(t, plane, []call{
		{"the group All", "POST", "/api/groups/" + id + "/resources", `{"resource_id":"` + one + `"}`, 422, "code", 422.0},
		{"the group All", "PUT", "/api/groups/" + id, `{"name":"All","resources":[` + ref(two, "subnet") + `]}`, 422, "code", 422.0},
	})
}

// What existing clients send and read of routes.
func TestRoutesOfExistingClients(t *testing.T) {
	plane := controlplanetest.New(t)
	peer := controlplanetest.NewMachine(t, plane).PeerID
	group := created(t, plane, "/api/groups", `{"name":"web"}`)
	full := func(change string) string {
		body := `{"network_id":"lan","network":"10.1.0.0/16","domains":null,"peer":"PEER","peer_groups":[],"groups":["web"],"metric":9,"masquerade":false,
			"enabled":true,"keep_route":false,"description":"","access_control_groups":[],"skip_auto_apply":false}`
		for pair := range strings.SplitSeq(change, ";") {
			if from, to, ok := strings.Cut(pair, "=>"); ok {
				body = strings.ReplaceAll(body, from, to)
			}
		}
		return strings.ReplaceAll(body, "PEER", peer)
	}
	route := created(t, plane, "/api/routes", full(""))
	path := "/api/routes/" + route
	got := ask(t, plane, "GET", path, "")
	for member, want := range map[string]any{
		"network_id": "lan", "network_type": "IPv4", "network": "10.1.0.0/16", "domains": absent{}, "peer": peer, "peer_groups": absent{}, "groups": []any{group},
		"metric": 9.0, "masquerade": false, "enabled": true, "keep_route": false, "description": "", "access_control_groups": absent{}, "skip_auto_apply": false,
	} {
		expect(t, "created", got.body, member, want)
	}
	domains := `"network":"10.1.0.0/16"=>"network":"";"domains":null=>"domains":["b.example.org","*.a.example.org"]`
	byGroup := `"peer":"PEER"=>"peer":null;"peer_groups":[]=>"peer_groups":["web"]`
	try(t, plane, []call{
		{"by name", "GET", "/api/routes?network_id=lan", ``, 200, "0.id", route},
		{"by another name", "GET", "/api/routes?network_id=wan", ``, 200, "0", absent{}},
		{"carried already", "POST", "/api/routes", full(`"lan"=>"wan"`), 409, "errors.0.field", "network"},
		{"by a group", "POST", "/api/routes", full(byGroup), 200, "peer_groups", []any{group}},
		{"by that group already", "POST", "/api/routes", full(byGroup), 409, "errors.0.field", "network"},
		{"domains", "PUT", path, full(domains), 200, "domains", []any{"b.example.org", "*.a.example.org"}},
		{"no range", "GET", path, ``, 200, "network", absent{}},
		{"its type", "GET", path, ``, 200, "network_type", "Domain"},
		{"carried already", "POST", "/api/routes", full(`"network":"10.1.0.0/16"=>"network":null;"domains":null=>"domains":["*.a.example.org","b.example.org"]`), 409, "errors.0.field", "domains"},
		{"its own again", "PUT", path, full(domains + `;"metric":9=>"metric":10`), 200, "metric", 10.0},
		{"IPv6", "PUT", path, full(`10.1.0.0/16=>2001:db8::/32`), 200, "network_type", "IPv6"},
		{"access", "PUT", path, full(`"access_control_groups":[]=>"access_control_groups":["web"]`), 200, "access_control_groups", []any{group}},
		{"both destinations", "PUT", path, full(`"domains":null=>"domains":["a.example.org"]`), 422, "errors.0.field", "network"},
		{"no destination", "PUT", path, full(`"network":"10.1.0.0/16"=>"network":null`), 422, "errors.0.field", "network"},
		{"both carriers", "PUT", path, full(`"peer_groups":[]=>"peer_groups":["web"]`), 422, "errors.0.field", "peer"},
		{"no carrier", "PUT", path, full(`"peer":"PEER"=>"peer":""`), 422, "errors.0.field", "peer"},
		{"no groups", "PUT", path, full(`"groups":["web"],"metric"=>"metric"`), 400, "errors.0.field", "groups"},
		{"empty groups", "PUT", path, full(`"groups":["web"],"metric"=>"groups":[],"metric"`), 422, "errors.0.field", "groups"},
		{"host bits", "PUT", path, full(`10.1.0.0/16=>10.1.2.3/16`), 422, "errors.0.detail", "must be written as 10.1.0.0/16"},
		{"a wrong domain", "PUT", path, full(`"network":"10.1.0.0/16"=>"network":null;"domains":null=>"domains":["a.example.org","EXAMPLE.org"]`), 422, "errors.0.field", "domains[1]"},
		{"a long name", "PUT", path, full(`"lan"=>"` + strings.Repeat("x", 41) + `"`), 422, "errors.0.field", "network_id"},
		{"unknown ids", "PUT", path, full(`PEER=>none;["web"]=>["none"]`), 422, "errors.0.field", "groups[0]"},
		{"unknown ids", "PUT", path, full(`PEER=>none;["web"]=>["none"]`), 422, "errors.1.field", "peer"},
		{"peer that carries", "DELETE", "/api/peers/" + peer, ``, 412, "referrers.0.name", "lan"},
		{"group in use", "DELETE", "/api/groups/" + group, ``, 400, "referrers.0.type", "route"},
		{"delete", "DELETE", path, ``, 200, "id", absent{}},
		{"deleted", "GET", path, ``, 404, "message", "route not found"},
	})
}

// If-Match and If-None-Match hold for the new nouns as for the old ones.
func TestConditionsOnNetworks(t *testing.T) {
	plane := controlplanetest.New(t)
	peer := controlplanetest.NewMachine(t, plane).PeerID
	network := created(t, plane, "/api/networks", `{"name":"lan"}`)
	at := "/api/networks/" + network
	resource := at + "/resources/" + created(t, plane, at+"/resources", `{"name":"r","address":"10.0.0.1"}`)
	router := at + "/routers/" + created(t, plane, at+"/routers", `{"peer":"`+peer+`"}`)
	route := "/api/routes/" + created(t, plane, "/api/routes", `{"network_id":"r","network":"10.0.0.0/8","peer":"`+peer+`","groups":["All"]}`)
	for path, body := range map[string]string{
		resource: `{"name":"r","address":"10.0.0.2"}`, router: `{"peer":"` + peer + `","metric":1}`, at: `{"name":"other"}`,
		route: `{"network_id":"r","network":"10.0.0.0/8","peer":"` + peer + `","groups":["All"],"metric":1}`,
	} {
		first := ask(t, plane, "GET", path, "").header.Get("ETag")
		changed := ask(t, plane, "PUT", path, body, "If-Match", first)
		if changed.status != http.StatusOK || changed.header.Get("ETag") == first {
			t.Errorf("%s: %d, ETag %s after %s", path, changed.status, changed.header.Get("ETag"), first)
		}
		if again := ask(t, plane, "PUT", path, body); again.header.Get("ETag") != changed.header.Get("ETag") {
			t.Errorf("%s: the same again is a change", path)
		}
		for _, method := range []string{"PUT", "DELETE"} {
			if got := ask(t, plane, method, path, map[string]string{"PUT": body}[method], "If-Match", first); got.status != http.StatusPreconditionFailed {
				t.Errorf("%s %s with a stale version: %d", method, path, got.status)
			}
		}
	}
	for _, path := range []string{router, route, "/api/networks", "/api/routes", "/api/networks/routers", at + "/resources"} {
		tag := ask(t, plane, "GET", path, "").header.Get("ETag")
		if got := ask(t, plane, "GET", path, "", "If-None-Match", tag); got.status != http.StatusNotModified {
			t.Errorf("%s: %d to the present ETag", path, got.status)
		}
	}
	body := `{"name":"once","address":"10.0.0.9"}`
	first := ask(t, plane, "POST", at+"/resources", body, "Idempotency-Key", "k")
	again := ask(t, plane, "POST", at+"/resources", body, "Idempotency-Key", "k")
	if first.status != http.StatusOK || string(again.body) != string(first.body) {
		t.Errorf("%s, then %d %s", first.body, again.status, again.body)
	}
}

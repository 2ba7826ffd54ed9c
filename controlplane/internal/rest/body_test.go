package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

func TestCheckBody(t *testing.T) {
	tests := []struct {
		name   string
		body   string
		target any
		strict bool
		kind   problem.Kind
		fields []string
		text   string
	}{
		{name: "right", body: `{"name":"web"}`, target: new(api.GroupRequest)},
		{name: "unknown member is ignored", body: `{"name":"web","color":"red"}`, target: new(api.GroupRequest)},
		{name: "unknown member in strict mode", body: `{"name":"web","color":"red"}`, target: new(api.GroupRequest), strict: true, kind: problem.KindInvalid, fields: []string{"color"}},
		{name: "unknown member of a rule in strict mode", body: `{"name":"p","rules":[{"name":"a"},{"name":"r","port":1}]}`, target: new(api.PolicyRequest), strict: true, kind: problem.KindInvalid, fields: []string{"rules[1].port"}},
		{name: "empty", body: "", target: new(api.GroupRequest), kind: problem.KindMalformed, text: "empty"},
		{name: "not JSON", body: "{\n  \"name\": web}", target: new(api.GroupRequest), kind: problem.KindMalformed, text: "line 2, column 11"},
		{name: "cut off", body: `{"name":"we`, target: new(api.GroupRequest), kind: problem.KindMalformed, text: "line 1, column 11"},
		{name: "two values", body: `{"name":"web"} {}`, target: new(api.GroupRequest), kind: problem.KindMalformed, text: "column 16"},
		{name: "no UTF-8", body: "{\n\"name\":\"w\xffb\"}", target: new(api.GroupRequest), kind: problem.KindMalformed, text: "not Unicode at line 2, column 10"},
		{name: "half a surrogate pair", body: `{"name":"\ud83d"}`, target: new(api.GroupRequest), kind: problem.KindMalformed, text: "column 10"},
		{name: "the wrong half", body: `{"name":"\ude00\ud83d"}`, target: new(api.GroupRequest), kind: problem.KindMalformed, text: "column 10"},
		{name: "half a pair and something", body: `{"name":"\ud83dxxxxxx"}`, target: new(api.GroupRequest), kind: problem.KindMalformed, text: "column 10"},
		{name: "a pair", body: `{"name":"\ud83d\ude00 \u00fc \\ud83d \"ü\uFFFD"}`, target: new(api.GroupRequest)},
		{name: "given twice", body: `{"name":"a","name":"b"}`, target: new(api.GroupRequest), kind: problem.KindMalformed, fields: []string{"name"}, text: "gives name twice"},
		{name: "given twice with an escape", body: `{"name":"a","n\u0061me":"b"}`, target: new(api.GroupRequest), kind: problem.KindMalformed, fields: []string{"name"}},
		{name: "given twice below", body: `{"name":"p","rules":[{"name":"a"},{"x":{"y":1,"y":1}}]}`, target: new(api.PolicyRequest), kind: problem.KindMalformed, fields: []string{"rules[1].x.y"}},
		{name: "the same in two objects", body: `{"name":"p","rules":[{"name":"p","x":[{},{}]},{"name":"q","x":[]}]}`, target: new(api.PolicyRequest)},
		{name: "a list", body: `[]`, target: new(api.GroupRequest), kind: problem.KindMalformed, text: "must be an object"},
		{name: "null", body: `null`, target: new(api.AccountRequest), kind: problem.KindMalformed, text: "must be an object"},
		{
			name: "wrong types, all of them", body: `{"name":1,"rules":[{"name":"r","enabled":"yes","ports":[80]},{"name":"q","port_ranges":{}, "sourceResource": "x"}],"enabled":1.5}`,
			target: new(api.PolicyRequest), kind: problem.KindMalformed,
			fields: []string{"enabled", "name", "rules[0].enabled", "rules[0].ports[0]", "rules[1].port_ranges", "rules[1].sourceResource"},
		},
		{name: "fraction", body: `{"name":"k","expires_in":1.5}`, target: new(api.SetupKeyRequest), kind: problem.KindMalformed, fields: []string{"expires_in"}, text: "whole number"},
		{name: "number out of range", body: `{"name":"k","expires_in":99999999999999999999}`, target: new(api.SetupKeyRequest), kind: problem.KindMalformed, fields: []string{"expires_in"}},
		{name: "bad base64", body: `{"to":"p","box":"***"}`, target: new(api.SignalRequest), kind: problem.KindMalformed, fields: []string{"box"}, text: "base64"},
		{name: "object instead of list", body: `{"auto_groups":{}}`, target: new(api.SetupKeyUpdate), kind: problem.KindMalformed, fields: []string{"auto_groups"}, text: "a list"},
		{name: "required list absent", body: `{"revoked":true}`, target: new(api.SetupKeyUpdate), kind: problem.KindMalformed, fields: []string{"auto_groups"}},
		{name: "required list null", body: `{"auto_groups":null}`, target: new(api.SetupKeyUpdate), kind: problem.KindInvalid, fields: []string{"auto_groups"}},
		{name: "required text absent", body: `{}`, target: new(api.GroupRequest), kind: problem.KindInvalid, fields: []string{"name"}},
		{name: "required text null", body: `{"name":null}`, target: new(api.GroupRequest), kind: problem.KindInvalid, fields: []string{"name"}},
		{name: "nullable list null", body: `{"name":"web","peers":null}`, target: new(api.GroupRequest)},
		{name: "null for a member with a default", body: `{"name":"p","rules":[{"name":"r","enabled":null}],"description":null}`, target: new(api.PolicyRequest)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := checkBody([]byte(test.body), test.target, test.strict)
			var p *problem.Problem
			if err != nil && !errors.As(err, &p) {
				t.Fatalf("%v is no problem", err)
			}
			if p == nil {
				p = &problem.Problem{}
			}
			if p.Kind != test.kind {
				t.Fatalf("kind %q, want %q (%v)", p.Kind, test.kind, err)
			}
			var fields []string
			for _, fault := range p.Errors {
				fields = append(fields, fault.Field)
			}
			if test.fields != nil {
				if diff := cmp.Diff(test.fields, fields); diff != "" {
					t.Errorf("fields (-want +got):\n%s", diff)
				}
			}
			if !strings.Contains(p.Detail, test.text) {
				t.Errorf("%q lacks %q", p.Detail, test.text)
			}
		})
	}
}

func TestReadBodyRefusesSizeAndMediaType(t *testing.T) {
	tests := []struct {
		name, contentType, body string
		kind                    problem.Kind
	}{
		{"JSON", "application/json", `{"name":"web"}`, ""},
		{"JSON with charset", "application/json; charset=UTF-8", `{"name":"web"}`, ""},
		{"merge patch", "application/merge-patch+json", `{"name":"web"}`, ""},
		{"nothing said", "", `{"name":"web"}`, ""},
		{"what curl calls a form", "application/x-www-form-urlencoded", ` {"name":"web"}`, ""},
		{"form", "application/x-www-form-urlencoded", `name=web`, problem.KindMediaType},
		{"text", "text/plain", `{"name":"web"}`, problem.KindMediaType},
		{"nonsense", ";;", `{"name":"web"}`, problem.KindMediaType},
		{"too large", "application/json", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, problem.KindTooLarge},
	}
	for _, test := range tests {
		for _, length := range []string{"known", "unknown"} {
			r := httptest.NewRequest(http.MethodPost, "/api/groups", strings.NewReader(test.body))
			r.Header.Set("Content-Type", test.contentType)
			if length == "unknown" {
				r.ContentLength = -1
			}
			_, err := readBody(httptest.NewRecorder(), r, new(api.GroupRequest), false)
			var p *problem.Problem
			if err != nil && !errors.As(err, &p) {
				t.Fatal(err)
			}
			if p == nil {
				p = &problem.Problem{}
			}
			if p.Kind != test.kind {
				t.Errorf("%s, length %s: %q, want %q", test.name, length, p.Kind, test.kind)
			}
		}
	}
}

func TestNotFoundStandsInEvery404AndNowhereElse(t *testing.T) {
	for _, p := range []*problem.Problem{
		problem.NotFound("group"), problem.PeerOffline(), {Kind: problem.KindNotFound, Detail: "gone"},
	} {
		if got := renderProblem(p, "/", "id"); got.Status != 404 || !strings.Contains(got.Message, "not found") {
			t.Errorf("%+v", got)
		}
	}
	for _, p := range []*problem.Problem{
		problem.Conflict("group", "name", "Not Found"),
		problem.Invalid(problem.Field("name", "NOT FOUND is no name")),
		problem.InUse("group", "not found", problem.Referrer{Type: "policy", Name: "not found"}),
	} {
		got := renderProblem(p, "/", "id")
		if strings.Contains(strings.ToLower(got.Detail+got.Message), "not found") {
			t.Errorf("%d: %s", got.Status, got.Message)
		}
		if got.Errors != nil && strings.Contains(strings.ToLower((*got.Errors)[0].Detail), "not found") {
			t.Errorf("%+v", *got.Errors)
		}
		if got.Message != strings.ToLower(got.Detail) || got.Code != got.Status || got.RequestId != "id" {
			t.Errorf("%+v", got)
		}
	}
}

func FuzzCheckBody(f *testing.F) {
	for _, seed := range []string{
		`{"name":"web","peers":["a"]}`, `{"rules":[{"ports":[null]}]}`, `{"NAME":1}`, `[`, `{"rules":{"a":1}}`, "\xff", `{"name":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, operation := range api.Operations {
			if operation.NewBody == nil {
				continue
			}
			target := operation.NewBody()
			if err := checkBody(raw, target, true); err != nil {
				var p *problem.Problem
				if !errors.As(err, &p) || p.Kind == problem.KindInternal {
					t.Fatalf("%s: %v", operation.ID, err)
				}
				continue
			}
			if err := json.Unmarshal(raw, target); err != nil {
				t.Fatalf("%s: passed the check but does not decode: %v", operation.ID, err)
			}
			body, ok := target.(requestBody)
			if !ok {
				t.Fatalf("%s: %T cannot be checked", operation.ID, target)
			}
			body.ApplyDefaults()
			body.Validate()
		}
	})
}

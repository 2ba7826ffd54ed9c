package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/terraform"
	"github.com/wattlenet/wattle/provider/internal/runtime"
)

// served is the provider as Terraform sees it, without Terraform: for what the
// Terraform of the tests is too old to ask.
type served struct {
	tfprotov6.ProviderServer
	schemas *tfprotov6.GetProviderSchemaResponse
	ids     map[string]*tfprotov6.ResourceIdentitySchema
}

// serve starts the provider. A nil argument is unknown, as at plan time when it
// comes from another resource.
func serve(t *testing.T, arguments map[string]any) *served {
	t.Helper()
	t.Setenv("WATTLE_CREDENTIALS", t.TempDir()+"/none")
	s := &served{ProviderServer: runtime.NewServer("test")()}
	var err error
	if s.schemas, err = s.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{}); err != nil {
		t.Fatal(err)
	}
	identities, err := s.GetResourceIdentitySchemas(t.Context(), &tfprotov6.GetResourceIdentitySchemasRequest{})
	if err != nil {
		t.Fatal(err)
	}
	s.ids = identities.IdentitySchemas
	resp, err := s.ConfigureProvider(t.Context(), &tfprotov6.ConfigureProviderRequest{Config: object(t, s.schemas.Provider.ValueType(), arguments)})
	healthy(t, err, resp.Diagnostics)
	return s
}

func healthy(t *testing.T, err error, diagnostics []*tfprotov6.Diagnostic) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diagnostics {
		t.Fatalf("%s: %s", d.Summary, d.Detail)
	}
}

// object is a value of an object type; members left out are null, nil members
// unknown.
func object(t *testing.T, typ tftypes.Type, members map[string]any) *tfprotov6.DynamicValue {
	t.Helper()
	of, ok := typ.(tftypes.Object)
	if !ok {
		t.Fatalf("%s is no object", typ)
	}
	values := map[string]tftypes.Value{}
	for name, member := range of.AttributeTypes {
		v, given := members[name]
		switch {
		case !given:
			values[name] = tftypes.NewValue(member, nil)
		case v == nil:
			values[name] = tftypes.NewValue(member, tftypes.UnknownValue)
		default:
			values[name] = tftypes.NewValue(member, v)
		}
	}
	dynamic, err := tfprotov6.NewDynamicValue(of, tftypes.NewValue(of, values))
	if err != nil {
		t.Fatal(err)
	}
	return &dynamic
}

// texts are the text members of a value.
func texts(t *testing.T, dynamic *tfprotov6.DynamicValue, typ tftypes.Type) map[string]string {
	t.Helper()
	v, err := dynamic.Unmarshal(typ)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]tftypes.Value
	if err := v.As(&members); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for name, member := range members {
		var text string
		if member.IsKnown() && !member.IsNull() && member.Type().Is(tftypes.String) && member.As(&text) == nil {
			out[name] = text
		}
	}
	return out
}

// TestImportByIdentity imports an object by what names it for good, of a noun
// without a parent and of one with.
func TestImportByIdentity(t *testing.T) {
	plane := controlplanetest.New(t)
	s := serve(t, map[string]any{"url": plane.URL, "token": plane.Token})
	group, err := plane.Client.CreateGroup(t.Context(), api.GroupRequest{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	peer := controlplanetest.NewMachine(t, plane).PeerID
	if _, err := plane.Client.CreateGroupMembership(t.Context(), group.Id, api.GroupMembershipRequest{PeerId: peer}); err != nil {
		t.Fatal(err)
	}
	for noun, want := range map[string]struct{ identity, state map[string]string }{
		"wattle_group":            {map[string]string{"id": group.Id}, map[string]string{"id": group.Id, "name": "web", "issued": "api"}},
		"wattle_group_membership": {map[string]string{"group_id": group.Id, "peer_id": peer}, map[string]string{"group_id": group.Id, "peer_id": peer}},
		"wattle_peer":             {map[string]string{"id": peer}, map[string]string{"id": peer}},
	} {
		t.Run(noun, func(t *testing.T) {
			given := map[string]any{}
			for name, v := range want.identity {
				given[name] = v
			}
			identity := &tfprotov6.ResourceIdentityData{IdentityData: object(t, s.ids[noun].ValueType(), given)}
			imported, err := s.ImportResourceState(t.Context(), &tfprotov6.ImportResourceStateRequest{TypeName: noun, Identity: identity})
			healthy(t, err, imported.Diagnostics)
			it := imported.ImportedResources[0]
			read, err := s.ReadResource(t.Context(), &tfprotov6.ReadResourceRequest{TypeName: noun, CurrentState: it.State, Private: it.Private, CurrentIdentity: it.Identity})
			healthy(t, err, read.Diagnostics)
			state := texts(t, read.NewState, s.schemas.ResourceSchemas[noun].ValueType())
			for name, v := range want.state {
				if state[name] != v {
					t.Errorf("%s is %q, want %q", name, state[name], v)
				}
			}
			if diff := cmp.Diff(want.identity, texts(t, read.NewIdentity.IdentityData, s.ids[noun].ValueType())); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
		})
	}
}

// TestListResources asks as terraform query does.
func TestListResources(t *testing.T) {
	plane := controlplanetest.New(t)
	s := serve(t, map[string]any{"url": plane.URL, "token": plane.Token})
	lister, ok := s.ProviderServer.(tfprotov6.ListResourceServer)
	if !ok {
		t.Fatal("the provider lists nothing")
	}
	// Every resource can be listed, but for those of which there is one.
	var want, got []string
	for _, n := range terraform.Nouns {
		if n.Schema != nil && n.Kind != terraform.Singleton {
			want = append(want, "wattle_"+n.Name)
		}
	}
	slices.Sort(want)
	for name := range s.schemas.ListResourceSchemas {
		got = append(got, name)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("list resources (-want +got):\n%s", diff)
	}
	var web string
	for _, name := range []string{"web", "db", "mail"} {
		group, err := plane.Client.CreateGroup(t.Context(), api.GroupRequest{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if name == "web" {
			web = group.Id
		}
	}
	peer := controlplanetest.NewMachine(t, plane).PeerID
	if _, err := plane.Client.CreateGroupMembership(t.Context(), web, api.GroupMembershipRequest{PeerId: peer}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, noun string
		config     map[string]any
		limit      int64
		names      []string
		attribute  string // of the resource
		values     []string
	}{
		{"all", "wattle_group", nil, 0, []string{"All", "web", "db", "mail"}, "name", []string{"All", "web", "db", "mail"}},
		{"limited", "wattle_group", nil, 2, []string{"All", "web"}, "name", []string{"All", "web"}},
		{"by name", "wattle_group", map[string]any{"name": "db"}, 0, []string{"db"}, "name", []string{"db"}},
		{"by a name that is not there", "wattle_group", map[string]any{"name": "nosuch"}, 0, nil, "name", nil},
		{"below a parent", "wattle_group_membership", map[string]any{"group_id": web}, 0, []string{peer}, "peer_id", []string{peer}},
		{"by ids", "wattle_group", map[string]any{"ids": []tftypes.Value{tftypes.NewValue(tftypes.String, web)}}, 0, []string{"web"}, "id", []string{web}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream, err := lister.ListResource(t.Context(), &tfprotov6.ListResourceRequest{
				TypeName: c.noun, Config: object(t, s.schemas.ListResourceSchemas[c.noun].ValueType(), c.config), IncludeResource: true, Limit: c.limit,
			})
			if err != nil {
				t.Fatal(err)
			}
			var names, values []string
			for result := range stream.Results {
				healthy(t, nil, result.Diagnostics)
				names = append(names, result.DisplayName)
				values = append(values, texts(t, result.Resource, s.schemas.ResourceSchemas[c.noun].ValueType())[c.attribute])
				if id := texts(t, result.Identity.IdentityData, s.ids[c.noun].ValueType()); len(id) == 0 {
					t.Errorf("%s has no identity", result.DisplayName)
				}
			}
			if diff := cmp.Diff(c.names, names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.values, values); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.attribute, diff)
			}
		})
	}
}

// TestNothingChanged: refresh and plan of a resource that nobody changed give
// back the bytes that they were asked about; after a change they do not.
func TestNothingChanged(t *testing.T) {
	const noun = "wattle_group"
	plane := controlplanetest.New(t)
	s := serve(t, map[string]any{"url": plane.URL, "token": plane.Token})
	made := s.change(t, nil, "web", nil)
	healthy(t, nil, made.Diagnostics)
	typ := s.schemas.ResourceSchemas[noun].ValueType()
	refresh := func() *tfprotov6.ReadResourceResponse {
		read, err := s.ReadResource(t.Context(), &tfprotov6.ReadResourceRequest{TypeName: noun, CurrentState: made.NewState, Private: made.Private, CurrentIdentity: made.NewIdentity})
		healthy(t, err, read.Diagnostics)
		return read
	}
	if read := refresh(); read.NewState != made.NewState {
		t.Error("the refreshed state was made anew")
	}
	config := object(t, typ, map[string]any{"name": "web"})
	plan, err := s.PlanResourceChange(t.Context(), &tfprotov6.PlanResourceChangeRequest{
		TypeName: noun, PriorState: made.NewState, PriorPrivate: made.Private, PriorIdentity: made.NewIdentity, Config: config, ProposedNewState: made.NewState,
	})
	healthy(t, err, plan.Diagnostics)
	if plan.PlannedState != made.NewState {
		t.Error("the plan was made anew")
	}
	id := texts(t, made.NewState, typ)["id"]
	if _, err := plane.Client.UpdateGroup(t.Context(), id, api.GroupRequest{Name: "www"}); err != nil {
		t.Fatal(err)
	}
	if got := texts(t, refresh().NewState, typ)["name"]; got != "www" {
		t.Errorf("after a change the state says %q", got)
	}
	if err := plane.Client.DeleteGroup(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	gone, err := refresh().NewState.Unmarshal(typ)
	if err != nil || !gone.IsNull() {
		t.Errorf("after the removal the state says %v, %v", gone, err)
	}
}

// TestUnknownArguments: with arguments that are known after the apply only, a
// plan succeeds without one request.
func TestUnknownArguments(t *testing.T) {
	plane := controlplanetest.New(t)
	gate := newGate(t, plane)
	for name, arguments := range map[string]map[string]any{
		"url":   {"url": nil, "token": plane.Token},
		"token": {"url": gate.URL, "token": nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("WATTLE_URL", gate.URL)
			t.Setenv("WATTLE_TOKEN", plane.Token)
			s := serve(t, arguments)
			typ := s.schemas.ResourceSchemas["wattle_group"].ValueType()
			config := map[string]any{"name": "web"}
			proposed := map[string]any{"name": "web", "id": nil, "issued": nil}
			none, err := tfprotov6.NewDynamicValue(typ, tftypes.NewValue(typ, nil))
			if err != nil {
				t.Fatal(err)
			}
			plan, err := s.PlanResourceChange(t.Context(), &tfprotov6.PlanResourceChangeRequest{
				TypeName: "wattle_group", PriorState: &none, Config: object(t, typ, config), ProposedNewState: object(t, typ, proposed),
			})
			healthy(t, err, plan.Diagnostics)
			// What is in the state already stays as it is.
			state := object(t, typ, map[string]any{"id": "g1", "name": "web", "issued": "api"})
			read, err := s.ReadResource(t.Context(), &tfprotov6.ReadResourceRequest{TypeName: "wattle_group", CurrentState: state})
			healthy(t, err, read.Diagnostics)
			if got := texts(t, read.NewState, typ)["id"]; got != "g1" {
				t.Errorf("the state has id %q, want g1", got)
			}
			applied, err := s.ApplyResourceChange(t.Context(), &tfprotov6.ApplyResourceChangeRequest{
				TypeName: "wattle_group", PriorState: &none, Config: object(t, typ, config), PlannedState: plan.PlannedState,
			})
			if err != nil || len(applied.Diagnostics) == 0 || !strings.Contains(applied.Diagnostics[0].Summary, "not configured yet") {
				t.Errorf("an apply without arguments: %+v, %v", applied, err)
			}
			if n := gate.count(); n != 0 {
				t.Errorf("%d requests were made", n)
			}
		})
	}
}

// A gate stands before a control plane and can refuse, or do something first.
type gate struct {
	*httptest.Server
	mu       sync.Mutex // guards all below
	requests int
	answer   func(w http.ResponseWriter, r *http.Request) bool // true: answered
}

func newGate(t *testing.T, plane *controlplanetest.Server) *gate {
	t.Helper()
	target, err := url.Parse(plane.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	g := &gate{}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.requests++
		answer := g.answer
		g.mu.Unlock()
		if answer == nil || !answer(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *gate) set(answer func(http.ResponseWriter, *http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = answer
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.requests
}

// refuseWith answers with a problem as the control plane does.
func refuseWith(w http.ResponseWriter, kind, retryAfter string) {
	p := api.NewProblem(kind)
	p.Detail = "come back later"
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Retry-After", retryAfter)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

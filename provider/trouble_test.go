package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// change plans and applies a group; prior is what the last call returned, nil
// to create it.
func (s *served) change(t *testing.T, prior *tfprotov6.ApplyResourceChangeResponse, name string, between func()) *tfprotov6.ApplyResourceChangeResponse {
	t.Helper()
	const noun = "wattle_group"
	typ := s.schemas.ResourceSchemas[noun].ValueType()
	before, err := tfprotov6.NewDynamicValue(typ, tftypes.NewValue(typ, nil))
	if err != nil {
		t.Fatal(err)
	}
	proposed := map[string]any{"name": name, "id": nil, "issued": nil}
	req := &tfprotov6.PlanResourceChangeRequest{TypeName: noun, PriorState: &before, Config: object(t, typ, map[string]any{"name": name})}
	if prior != nil {
		req.PriorState, req.PriorPrivate, req.PriorIdentity = prior.NewState, prior.Private, prior.NewIdentity
		for attribute, text := range texts(t, prior.NewState, typ) {
			if attribute != "name" {
				proposed[attribute] = text
			}
		}
	}
	req.ProposedNewState = object(t, typ, proposed)
	plan, err := s.PlanResourceChange(t.Context(), req)
	healthy(t, err, plan.Diagnostics)
	if between != nil {
		between()
	}
	applied, err := s.ApplyResourceChange(t.Context(), &tfprotov6.ApplyResourceChangeRequest{
		TypeName: noun, PriorState: req.PriorState, Config: req.Config, PlannedState: plan.PlannedState,
		PlannedPrivate: plan.PlannedPrivate, PlannedIdentity: plan.PlannedIdentity,
	})
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

// told is the diagnostics as one text.
func told(diagnostics []*tfprotov6.Diagnostic) string {
	var b strings.Builder
	for _, d := range diagnostics {
		b.WriteString(d.Summary + ": " + d.Detail + "\n")
	}
	return b.String()
}

// TestChangedBetweenPlanAndApply: what somebody else changed in between is not
// overwritten; the error names it.
func TestChangedBetweenPlanAndApply(t *testing.T) {
	plane := controlplanetest.New(t)
	s := serve(t, map[string]any{"url": plane.URL, "token": plane.Token})
	made := s.change(t, nil, "web", nil)
	healthy(t, nil, made.Diagnostics)
	id := texts(t, made.NewState, s.schemas.ResourceSchemas["wattle_group"].ValueType())["id"]
	applied := s.change(t, made, "www", func() {
		if _, err := plane.Client.UpdateGroup(t.Context(), id, api.GroupRequest{Name: "somebody else's"}); err != nil {
			t.Fatal(err)
		}
	})
	if got := told(applied.Diagnostics); !strings.Contains(got, "It changed since it was planned: name. Plan again") {
		t.Errorf("the apply says %q", got)
	}
	if group, err := plane.Client.GetGroup(t.Context(), id); err != nil || group.Name != "somebody else's" {
		t.Errorf("the group is %+v, %v", group, err)
	}
}

// TestBusyServerInMidApply: creates and changes wait as long as they are asked
// to, and happen once.
func TestBusyServerInMidApply(t *testing.T) {
	plane := controlplanetest.New(t)
	gate := newGate(t, plane)
	s := serve(t, map[string]any{"url": gate.URL, "token": plane.Token, "access_preview": false})
	busy := map[string][]string{
		http.MethodPost: {api.ProblemRateLimited, api.ProblemUnavailable},
		http.MethodPut:  {api.ProblemUnavailable},
	}
	gate.set(func(w http.ResponseWriter, r *http.Request) bool {
		kinds := busy[r.Method] // one request after the other
		if len(kinds) == 0 {
			return false
		}
		busy[r.Method] = kinds[1:]
		refuseWith(w, kinds[0], "1")
		return true
	})
	made := s.change(t, nil, "web", nil)
	healthy(t, nil, made.Diagnostics)
	healthy(t, nil, s.change(t, made, "www", nil).Diagnostics)
	if gate.count() != 5 {
		t.Errorf("%d requests, want three for the create and two for the change", gate.count())
	}
	groups, err := plane.Client.ListGroups(t.Context(), sdk.ListGroupsOptions{Name: "www"})
	if err != nil || len(groups) != 1 {
		t.Errorf("%d groups, %v", len(groups), err)
	}
}

// TestServerGoneInMidApply: what was made before the server went away is in the
// state, and a second apply makes the rest, nothing twice.
func TestServerGoneInMidApply(t *testing.T) {
	plane := controlplanetest.New(t)
	gate := newGate(t, plane)
	const config = `
resource "wattle_group" "web" {
  name = "web"
}
resource "wattle_setup_key" "web" {
  name        = "web"
  auto_groups = [wattle_group.web.id]
}
resource "wattle_policy" "web" {
  name = "web"
  rules = {
    "all" = { sources = [wattle_group.web.id], destinations = [wattle_group.web.id] }
  }
}
`
	gate.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/api/setup-keys" || r.URL.Path == "/api/policies" {
			panic(http.ErrAbortHandler) // the connection breaks
		}
		return false
	})
	behind := *plane
	behind.URL = gate.URL
	apply(t, &behind,
		resource.TestStep{Config: config, ExpectError: regexp.MustCompile(`Cannot create (setup key|policy)`)},
		resource.TestStep{PreConfig: func() { gate.set(nil) }, Config: config, Check: resource.ComposeAggregateTestCheckFunc(
			resource.TestCheckResourceAttrSet("wattle_setup_key.web", "id"), resource.TestCheckResourceAttrSet("wattle_policy.web", "id"),
		)},
	)
	groups, err := plane.Client.ListGroups(t.Context(), sdk.ListGroupsOptions{})
	if err != nil || len(groups) != 1 || groups[0].Name != "All" {
		t.Errorf("%d groups are left, %v", len(groups), err)
	}
}

// TestTokenThatIsNotValidAnyMore: the error says where the token comes from.
func TestTokenThatIsNotValidAnyMore(t *testing.T) {
	plane := controlplanetest.New(t)
	token, err := plane.Client.CreateToken(t.Context(), plane.OwnerID, api.TokenRequest{Name: "short", ExpiresIn: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Client.DeleteToken(t.Context(), plane.OwnerID, token.Id); err != nil {
		t.Fatal(err)
	}
	s := serve(t, map[string]any{"url": plane.URL, "token": token.PlainToken})
	made := s.change(t, nil, "web", nil)
	if got := told(made.Diagnostics); !strings.Contains(got, "Check the provider's token, WATTLE_TOKEN or the credentials profile.") {
		t.Errorf("the apply says %q", got)
	}
}

// TestAccountOfSomebodyElse: nothing is made in another account than the
// configuration says.
func TestAccountOfSomebodyElse(t *testing.T) {
	plane := controlplanetest.New(t)
	accounts, err := plane.Client.ListAccounts(t.Context(), sdk.ListAccountsOptions{})
	if err != nil || len(accounts) != 1 {
		t.Fatalf("%d accounts, %v", len(accounts), err)
	}
	own := accounts[0].Id
	s := serve(t, map[string]any{"url": plane.URL, "token": plane.Token, "account": own})
	resp, err := s.ConfigureProvider(t.Context(), &tfprotov6.ConfigureProviderRequest{
		Config: object(t, s.schemas.Provider.ValueType(), map[string]any{"url": plane.URL, "token": plane.Token, "account": "another"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := told(resp.Diagnostics); !strings.Contains(got, `works in account "`+own+`", not in "another"`) {
		t.Errorf("the provider says %q", got)
	}
}

// TestValuesThatAreNotKnownYet: a plan with values that another resource makes
// refuses nothing that may turn out right, and shows no more than the unknown.
func TestValuesThatAreNotKnownYet(t *testing.T) {
	plane := controlplanetest.New(t)
	const config = `
resource "terraform_data" "later" {
  input = "web"
}
resource "wattle_group" "web" {
  name = terraform_data.later.output
}
resource "wattle_user" "robot" {
  is_service_user = terraform_data.later.output == "web"
}
resource "wattle_policy" "web" {
  name = terraform_data.later.output
  rules = {
    "all" = {
      sources      = [wattle_group.web.id]
      destinations = [wattle_group.web.id]
      protocol     = terraform_data.later.output == "web" ? "tcp" : "udp"
      ports        = terraform_data.later.output == "web" ? ["443"] : ["53"]
    }
  }
}
`
	apply(t, plane,
		resource.TestStep{Config: config, Check: resource.ComposeAggregateTestCheckFunc(
			resource.TestCheckResourceAttr("wattle_policy.web", "rules.all.protocol", "tcp"),
			resource.TestCheckResourceAttr("wattle_user.robot", "is_service_user", "true"),
		)},
		resource.TestStep{Config: config, PlanOnly: true},
	)
}

// TestParentThatIsGone: when somebody removes a parent, the plan makes parent
// and child anew; when it goes in mid-apply, the child's error says so and a
// second apply finishes the work.
func TestParentThatIsGone(t *testing.T) {
	plane := controlplanetest.New(t)
	gate := newGate(t, plane)
	peer := controlplanetest.NewMachine(t, plane).PeerID
	config := func(more string) string {
		return "resource \"wattle_group\" \"web\" {\n  name = \"web\"\n}\n" + more
	}
	edge := "resource \"wattle_group_membership\" \"web\" {\n  group_id = wattle_group.web.id\n  peer_id = \"" + peer + "\"\n}\n"
	remove := func() {
		groups, err := plane.Client.ListGroups(t.Context(), sdk.ListGroupsOptions{Name: "web"})
		if err != nil || len(groups) != 1 {
			t.Fatalf("%d groups, %v", len(groups), err)
		}
		if err := plane.Client.DeleteGroup(t.Context(), groups[0].Id); err != nil {
			t.Fatal(err)
		}
	}
	behind := *plane
	behind.URL = gate.URL
	both := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
		plancheck.ExpectResourceAction("wattle_group.web", plancheck.ResourceActionCreate),
		plancheck.ExpectResourceAction("wattle_group_membership.web", plancheck.ResourceActionCreate),
	}}
	apply(t, &behind,
		resource.TestStep{Config: config("")},
		resource.TestStep{
			PreConfig: func() {
				gate.set(func(_ http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodPost {
						gate.set(nil)
						remove()
					}
					return false
				})
			},
			Config: config(edge), ExpectError: regexp.MustCompile(`(?s)wattle_group_membership.web,.*Cannot create group membership|Cannot create group membership.*not found`),
		},
		resource.TestStep{Config: config(edge), ConfigPlanChecks: both},
		resource.TestStep{PreConfig: remove, Config: config(edge), ConfigPlanChecks: both},
	)
}

// TestServerThatStaysAway: a server that asks for more patience than the
// provider has is named, nothing is in the state that is not there, and a
// second apply makes it once.
func TestServerThatStaysAway(t *testing.T) {
	plane := controlplanetest.New(t)
	gate := newGate(t, plane)
	behind := *plane
	behind.URL = gate.URL
	const config = "resource \"wattle_group\" \"web\" {\n  name = \"web\"\n}\n"
	apply(t, &behind,
		resource.TestStep{
			PreConfig: func() {
				gate.set(func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodPost {
						refuseWith(w, api.ProblemUnavailable, "3600")
						return true
					}
					return false
				})
			},
			Config: config, ExpectError: regexp.MustCompile(`(?s)Cannot create group.*ome back later`),
		},
		resource.TestStep{PreConfig: func() { gate.set(nil) }, Config: config, ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
			plancheck.ExpectResourceAction("wattle_group.web", plancheck.ResourceActionCreate),
		}}},
	)
}

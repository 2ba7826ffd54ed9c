package main

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// TestServiceUser applies the example of a service user and acts with its token.
func TestServiceUser(t *testing.T) {
	source, err := os.ReadFile("../examples/service-user/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	plane := controlplanetest.New(t)
	apply(t, plane,
		resource.TestStep{Config: string(source), Check: resource.ComposeAggregateTestCheckFunc(
			resource.TestCheckResourceAttr("wattle_user.pipeline", "issued", "api"),
			resource.TestCheckResourceAttrWith("wattle_token.pipeline", "token", func(secret string) error {
				client, err := sdk.New(sdk.Config{URL: plane.URL, Token: secret})
				if err != nil {
					return err
				}
				defer client.CloseIdleConnections()
				_, err = client.CreateGroup(t.Context(), api.GroupRequest{Name: "workers"})
				return err
			}),
		)},
		resource.TestStep{Config: string(source), PlanOnly: true},
	)
	author := ""
	for event, err := range plane.Client.AuditEvents(t.Context(), sdk.ListAuditEventsOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if event.ActivityCode == "group.create" && event.Meta["name"] == "workers" {
			author = event.InitiatorName
		}
	}
	if author != "pipeline" {
		t.Errorf("the group was made by %q, want the service user", author)
	}
	for user, err := range plane.Client.Users(t.Context(), sdk.ListUsersOptions{}) {
		if err != nil || user.IsServiceUser {
			t.Errorf("user %s is still there after destroy: %v", user.Name, err)
		}
	}
}

// TestPerson: what the generated cases cannot know, since only people have an
// e-mail address: import by it, and a new person for a new address.
func TestPerson(t *testing.T) {
	plane := controlplanetest.New(t)
	person := func(more string) string { return "resource \"wattle_user\" \"ada\" {\n" + more + "\n}\n" }
	action := func(a plancheck.ResourceActionType) resource.ConfigPlanChecks {
		return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction("wattle_user.ada", a)}}
	}
	apply(t, plane,
		resource.TestStep{Config: person("email = \"ada@example.org\"\nname = \"Ada\"")},
		resource.TestStep{ResourceName: "wattle_user.ada", ImportState: true, ImportStateVerify: true},
		resource.TestStep{ResourceName: "wattle_user.ada", ImportState: true, ImportStateVerify: true, ImportStateId: "email=ada@example.org"},
		resource.TestStep{
			Config:           person("email = \"ada@example.org\"\nname = \"Ada\"\nrole = \"auditor\"\nis_blocked = true"),
			ConfigPlanChecks: action(plancheck.ResourceActionUpdate),
		},
		resource.TestStep{Config: person(`email = "lovelace@example.org"`), ConfigPlanChecks: action(plancheck.ResourceActionReplace)},
		resource.TestStep{
			Config: person(`email = "lovelace@example.org"`) + "data \"wattle_user\" \"found\" {\n  email = wattle_user.ada.email\n}\n",
			Check:  resource.TestCheckResourceAttr("data.wattle_user.found", "status", "invited"),
		},
		resource.TestStep{Config: person(`is_service_user = true`), ConfigPlanChecks: action(plancheck.ResourceActionReplace)},
	)
}

// TestUserRefusals: a refusal of the server stands at its attribute.
func TestUserRefusals(t *testing.T) {
	plane := controlplanetest.New(t)
	for name, c := range map[string]struct{ config, says string }{
		"no address":          {`name = "Ada"`, `(?s)pre-apply plan.*Set exactly one of email,\s+is_service_user; 0\s+are`},
		"address and service": {"is_service_user = true\nemail = \"a@example.org\"", `(?s)pre-apply plan.*email = "a@example.org".*Set exactly one of`},
		"no such address":     {`email = "nobody"`, `(?s)pre-apply plan.*email = "nobody".*must be an e-mail address such as\s+ada@example.org`},
		"owner service user":  {"is_service_user = true\nrole = \"owner\"", `(?s)role.*cannot be owner`},
		"taken":               {`email = "owner@controlplane.test"`, `(?s)email = .*Taken by another user`},
		"All":                 {"is_service_user = true\nauto_groups = [\"All\"]", `(?s)auto_groups.*every\s+machine\s+anyway`},
	} {
		t.Run(name, func(t *testing.T) {
			apply(t, plane, resource.TestStep{Config: "resource \"wattle_user\" \"x\" {\n" + c.config + "\n}\n", ExpectError: regexp.MustCompile(c.says)})
		})
	}
}

// TestInvite: an invite that was accepted, and one that has expired, is no drift.
// The person is changed in place beside it, and everything goes in the end.
func TestInvite(t *testing.T) {
	plane := controlplanetest.New(t)
	person := func(role string) string {
		return `
resource "wattle_group" "web" {
  name = "web"
}
resource "wattle_user" "ada" {
  email       = "ada@example.org"
  role        = "` + role + `"
  auto_groups = [wattle_group.web.id]
}
resource "wattle_invite" "ada" {
  email                 = wattle_user.ada.email
  invite_token_in_state = true
}
`
	}
	var link string
	accept := func() {
		if _, err := plane.Client.AcceptInvite(t.Context(), link, api.InviteAcceptRequest{Password: "correct horse", Name: new("Ada")}); err != nil {
			t.Fatal(err)
		}
	}
	action := func(what string, a plancheck.ResourceActionType) plancheck.PlanCheck {
		return plancheck.ExpectResourceAction(what, a)
	}
	named := func(want string) resource.TestCheckFunc {
		return resource.TestCheckResourceAttrWith("wattle_user.ada", "id", func(id string) error {
			user, err := plane.Client.GetUser(t.Context(), id)
			if err == nil && user.Name != want {
				return fmt.Errorf("the person is called %q, want %q", user.Name, want)
			}
			return err
		})
	}
	apply(t, plane,
		resource.TestStep{Config: person("user"), Check: resource.ComposeAggregateTestCheckFunc(
			resource.TestCheckResourceAttr("wattle_invite.ada", "role", "user"),
			resource.TestCheckResourceAttrWith("wattle_invite.ada", "invite_token", func(secret string) error {
				link = secret
				return nil
			}),
		)},
		// The name that the person chose is no drift, and a change of something else leaves it alone.
		resource.TestStep{PreConfig: accept, Config: person("user"), PlanOnly: true},
		resource.TestStep{Config: person("auditor"), ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
			action("wattle_invite.ada", plancheck.ResourceActionNoop), action("wattle_user.ada", plancheck.ResourceActionUpdate),
		}}},
		resource.TestStep{
			Config: person("auditor") + "data \"wattle_invite\" \"ada\" {\n  id = wattle_invite.ada.id\n}\ndata \"wattle_invites\" \"open\" {}\n",
			Check: resource.ComposeAggregateTestCheckFunc(
				resource.TestCheckResourceAttr("data.wattle_invite.ada", "accepted", "true"),
				resource.TestCheckResourceAttr("data.wattle_invites.open", "invites.#", "0"),
				named("Ada"),
			),
		},
		resource.TestStep{ResourceName: "wattle_invite.ada", ImportState: true, ImportStateVerify: true, ImportStateVerifyIgnore: []string{"invite_token", "invite_token_in_state"}},
		// Who was let in cannot be invited again.
		resource.TestStep{
			Config:      person("auditor") + "resource \"wattle_invite\" \"again\" {\n  email = \"ada@example.org\"\n}\n",
			ExpectError: regexp.MustCompile(`(?s)with wattle_invite.again.*email = .*Taken by another user`),
		},
	)
	for invite, err := range plane.Client.Invites(t.Context(), sdk.ListInvitesOptions{}) {
		t.Errorf("%+v is still there after destroy: %v", invite, err)
	}
}

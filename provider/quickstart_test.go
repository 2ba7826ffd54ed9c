package main

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/provider/internal/runtime"
)

// apply runs Terraform steps with the provider configured by a profile.
func apply(t *testing.T, plane *controlplanetest.Server, steps ...resource.TestStep) {
	t.Helper()
	if os.Getenv("TF_ACC_TERRAFORM_PATH") == "" {
		binary, err := exec.LookPath("terraform")
		if err != nil {
			t.Skip("SKIPPED: no terraform on the path and TF_ACC_TERRAFORM_PATH is not set")
		}
		t.Setenv("TF_ACC_TERRAFORM_PATH", binary)
	}
	profile := t.TempDir() + "/credentials"
	if err := (sdk.Profile{URL: plane.URL, Token: plane.Token}).Write(profile); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"WATTLE_CREDENTIALS": profile, "WATTLE_URL": "", "WATTLE_TOKEN": "", "CHECKPOINT_DISABLE": "1",
		"TF_CLI_CONFIG_FILE": os.DevNull, "TF_ACC_PROVIDER_NAMESPACE": "wattlenet",
	} {
		t.Setenv(name, value)
	}
	resource.Test(t, resource.TestCase{
		IsUnitTest: true,
		ProtoV6ProviderFactories: map[string]func() (tfprotov6.ProviderServer, error){
			"wattle": func() (tfprotov6.ProviderServer, error) { return runtime.NewServer("test")(), nil },
		},
		Steps: steps,
	})
}

// TestQuickstart applies the example that a newcomer begins with, twice.
func TestQuickstart(t *testing.T) {
	source, err := os.ReadFile("../examples/quickstart/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	plane := controlplanetest.New(t)
	apply(t, plane,
		resource.TestStep{Config: string(source), Check: resource.TestCheckResourceAttrSet("wattle_setup_key.machines", "key")},
		resource.TestStep{Config: string(source), PlanOnly: true},
	)
	for key, err := range plane.Client.SetupKeys(t.Context(), sdk.ListSetupKeysOptions{Name: "quickstart"}) {
		t.Errorf("setup key %s is still there after destroy: %v", key.Name, err)
	}
}

// TestMembersAndNameInOneApply: a group is renamed while another resource of
// the same run changes its members; neither is in the way of the other.
func TestMembersAndNameInOneApply(t *testing.T) {
	plane := controlplanetest.New(t)
	peer := controlplanetest.NewMachine(t, plane).PeerID
	group := func(name string) string { return "resource \"wattle_group\" \"web\" {\n  name = \"" + name + "\"\n}\n" }
	edge := "resource \"wattle_group_membership\" \"web\" {\n  group_id = wattle_group.web.id\n  peer_id = \"" + peer + "\"\n}\n"
	apply(t, plane,
		resource.TestStep{Config: group("web") + edge},
		resource.TestStep{
			// Another edge moves the version that the state remembers.
			PreConfig: func() { join(t, plane, "web", controlplanetest.NewMachine(t, plane).PeerID) },
			Config:    group("web servers") + edge,
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectResourceAction("wattle_group.web", plancheck.ResourceActionUpdate),
			}},
		},
	)
}

func join(t *testing.T, plane *controlplanetest.Server, name, peer string) {
	t.Helper()
	groups, err := plane.Client.ListGroups(t.Context(), sdk.ListGroupsOptions{Name: name})
	if err != nil || len(groups) != 1 {
		t.Fatalf("%d groups, %v", len(groups), err)
	}
	if _, err := plane.Client.CreateGroupMembership(t.Context(), groups[0].Id, api.GroupMembershipRequest{PeerId: peer}); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsSaid: the errors of the server stand where the fault is.
func TestWhatIsSaid(t *testing.T) {
	plane := controlplanetest.New(t)
	for name, c := range map[string]struct{ config, says string }{
		"unknown group":    {`resource "wattle_setup_key" "x" { name = "x", auto_groups = ["nosuch"] }`, `(?s)auto_groups.*nosuch`},
		"name taken":       {`resource "wattle_group" "x" { name = "All" }`, `(?s)Cannot create group.*name`},
		"no such peer":     {`resource "wattle_peer" "x" { id = "nosuch" }`, `(?s)Cannot create peer.*not found`},
		"no such data":     {`data "wattle_group" "x" { name = "nosuch" }`, `No group has name "nosuch"`},
		"both id and name": {`data "wattle_group" "x" { name = "a", id = "b" }`, `Set exactly one of id, name`},
		"neither":          {`data "wattle_group" "x" {}`, `Set exactly one of id, name`},
	} {
		t.Run(name, func(t *testing.T) {
			config := regexp.MustCompile(`, (\w+ = )`).ReplaceAllString(c.config, "\n$1")
			config = regexp.MustCompile(`\{ (.*)\n(.*) \}`).ReplaceAllString(config, "{\n$1\n$2\n}")
			apply(t, plane, resource.TestStep{Config: config, ExpectError: regexp.MustCompile(c.says)})
		})
	}
}

package main

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	tfstate "github.com/hashicorp/terraform-plugin-testing/terraform"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// TestSettingsAreGivenBack: what the settings managed goes back to what a new
// account has, one by one when it is taken out and all together at the end, so
// that the group which they name can be destroyed. What they never managed stays.
func TestSettingsAreGivenBack(t *testing.T) {
	plane := controlplanetest.New(t)
	read := func() api.AccountSettings {
		settings, err := plane.Client.GetAccountSettings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		settings.Version = 0
		return *settings
	}
	want := read()
	byHand := api.AccountSettingsRequest{}
	byHand.KeyRotationDays.Set(30)
	if _, err := plane.Client.UpdateAccountSettings(t.Context(), byHand); err != nil {
		t.Fatal(err)
	}
	want.KeyRotationDays = 30
	check := func(change func(*api.AccountSettings)) resource.TestCheckFunc {
		return func(*tfstate.State) error {
			expected := want
			change(&expected)
			if diff := cmp.Diff(expected, read()); diff != "" {
				return errors.New("settings (-want +got):\n" + diff)
			}
			return nil
		}
	}
	// Without create_before_destroy, Terraform destroys what is taken out before it changes what named it.
	group := "resource \"wattle_group\" \"edge\" {\n  name = \"edge\"\n  lifecycle {\n    create_before_destroy = true\n  }\n}\n"
	settings := func(members string) string {
		return "resource \"wattle_account_settings\" \"this\" {\n" + members + "\n}\n"
	}
	id := func() string {
		for g, err := range plane.Client.Groups(t.Context(), sdk.ListGroupsOptions{}) {
			if err == nil && g.Name == "edge" {
				return g.Id
			}
		}
		return ""
	}
	const exposed = "peer_expose_enabled = true\npeer_expose_groups = [wattle_group.edge.id]\n"
	apply(t, plane,
		resource.TestStep{
			Config: group + settings(exposed+"network_traffic_logs_groups = [wattle_group.edge.id]\nregular_users_view_blocked = false\npeer_approval_enabled = true"),
			Check: check(func(s *api.AccountSettings) {
				s.PeerExposeEnabled, s.PeerExposeGroups, s.NetworkTrafficLogsGroups = true, []string{id()}, []string{id()}
				s.RegularUsersViewBlocked, s.PeerApprovalEnabled = false, true
			}),
		},
		resource.TestStep{
			Config: group + settings(exposed),
			Check:  check(func(s *api.AccountSettings) { s.PeerExposeEnabled, s.PeerExposeGroups = true, []string{id()} }),
		},
		// The group goes in the same run in which the settings forget it.
		resource.TestStep{Config: settings("peer_expose_enabled = false"), Check: check(func(*api.AccountSettings) {})},
		resource.TestStep{
			Config: group + settings(exposed+"peer_login_expiration = 7200"),
			Check: check(func(s *api.AccountSettings) {
				s.PeerExposeEnabled, s.PeerExposeGroups, s.PeerLoginExpiration = true, []string{id()}, 7200
			}),
		},
	)
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Errorf("after destroy (-want +got):\n%s", diff)
	}
	if id() != "" {
		t.Error("the group is still there")
	}
}

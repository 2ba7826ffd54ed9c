package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// TestMembersThatNobodyAsksFor: a group with members is imported into a
// configuration that does not name them. That is no change; renaming the group
// leaves them alone, and so does a membership that comes in the same run. Then
// the configuration names all of them, which is none either.
func TestMembersThatNobodyAsksFor(t *testing.T) {
	plane := controlplanetest.New(t)
	one, two := controlplanetest.NewMachine(t, plane).PeerID, controlplanetest.NewMachine(t, plane).PeerID
	group, err := plane.Client.CreateGroup(t.Context(), api.GroupRequest{Name: "web", Peers: nullable.NewNullableWithValue([]string{one})})
	if err != nil {
		t.Fatal(err)
	}
	c := newCommand(t, plane, plane.URL)
	do := func(says, config string) {
		t.Helper()
		config = "terraform {\n  required_providers {\n    wattle = {\n      source = \"wattlenet/wattle\"\n    }\n  }\n}\n" + config
		if err := os.WriteFile(filepath.Join(c.folder, "main.tf"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := c.run(t, 0, "apply", "-auto-approve", "-input=false", "-no-color"); !strings.Contains(out, says) {
			t.Fatalf("want %q\n%s", says, out)
		}
		c.run(t, 0, "plan", "-detailed-exitcode", "-input=false")
	}
	web := func(attributes string) string { return "resource \"wattle_group\" \"web\" {\n" + attributes + "\n}\n" }
	membership := fmt.Sprintf("resource \"wattle_group_membership\" \"two\" {\n  group_id = %q\n  peer_id = %q\n}\n", group.Id, two)

	do("1 imported, 0 added, 0 changed", web(`name = "web"`)+fmt.Sprintf("import {\n  to = wattle_group.web\n  id = %q\n}\n", group.Id))
	do("1 added, 1 changed", web(`name = "edge"`)+membership)
	do("0 added, 0 changed, 0 destroyed", web(fmt.Sprintf("name = \"edge\"\npeers = [%q, %q]", one, two))+membership)
	do("0 added, 1 changed", web(fmt.Sprintf("name = \"front\"\npeers = [%q, %q]", one, two))+membership)
	do("0 added, 0 changed, 0 destroyed", web(`name = "front"`)+membership)

	if group, err = plane.Client.GetGroup(t.Context(), group.Id); err != nil {
		t.Fatal(err)
	}
	var members []string
	for _, peer := range group.Peers {
		members = append(members, peer.Id)
	}
	if slices.Sort(members); group.Name != "front" || !slices.Equal(members, slices.Sorted(slices.Values([]string{one, two}))) {
		t.Errorf("the group is %q with %v, want front with %s and %s", group.Name, members, one, two)
	}
	for peer, err := range plane.Client.Peers(t.Context(), sdk.ListPeersOptions{}) {
		if err != nil || len(peer.Groups) != 2 { // All is the other one
			t.Errorf("peer %s is in %d groups, want 2: %v", peer.Id, len(peer.Groups), err)
		}
	}
}

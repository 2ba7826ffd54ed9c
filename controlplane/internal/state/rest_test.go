package state_test

import (
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// TestRevokedKeyStaysRevoked changes the groups of a revoked key over the API, as a client does that knows of no more.
func TestRevokedKeyStaysRevoked(t *testing.T) {
	plane := controlplanetest.New(t)
	ctx, client := t.Context(), plane.Client
	group, err := client.CreateGroup(ctx, api.GroupRequest{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := client.CreateSetupKey(ctx, api.SetupKeyRequest{Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []api.SetupKeyUpdate{{AutoGroups: []string{}, Revoked: new(true)}, {AutoGroups: []string{group.Id}}} {
		changed, err := client.UpdateSetupKey(ctx, key.Id, change)
		if err != nil {
			t.Fatal(err)
		}
		if !changed.Revoked || len(changed.AutoGroups) != len(change.AutoGroups) {
			t.Fatalf("revoked %v, groups %v", changed.Revoked, changed.AutoGroups)
		}
	}
	if _, err := client.UpdateSetupKey(ctx, key.Id, api.SetupKeyUpdate{AutoGroups: []string{}, Revoked: new(false)}); !sdk.IsInvalid(err) {
		t.Fatal("a revoked key was revived:", err)
	}
}

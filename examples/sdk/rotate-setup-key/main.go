// Program rotate-setup-key makes a key like an old one, prints it, and revokes
// the old one. Machines that enrolled with the old key stay.
//
//	rotate-setup-key -id ID >key
package main

import (
	"context"
	"flag"
	"fmt"
	"log"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

func main() {
	id := flag.String("id", "", "id of the old key")
	flag.Parse()
	if err := run(context.Background(), *id); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, id string) error {
	client, err := sdk.FromProfile("")
	if err != nil {
		return err
	}
	var version string
	old, err := client.GetSetupKey(ctx, id, sdk.ETag(&version))
	if err != nil {
		return err
	}
	kind := api.SetupKeyRequestType(old.Type)
	fresh, err := client.CreateSetupKey(ctx, api.SetupKeyRequest{
		Name: old.Name, Type: &kind, ExpiresIn: &old.ExpiresIn, AutoGroups: &old.AutoGroups, UsageLimit: &old.UsageLimit,
		Ephemeral: &old.Ephemeral, AllowExtraDnsLabels: &old.AllowExtraDnsLabels,
	})
	if err != nil {
		return err
	}
	// The new key first: whoever enrols meanwhile has one of the two.
	revoked := true
	_, err = client.UpdateSetupKey(ctx, id, api.SetupKeyUpdate{AutoGroups: old.AutoGroups, Revoked: &revoked}, sdk.IfMatch(version))
	if sdk.IsPreconditionFailed(err) {
		return fmt.Errorf("somebody changed the old key meanwhile; look at it and revoke it by hand: %w", err)
	}
	if err != nil {
		return err
	}
	fmt.Println(fresh.Key)
	return nil
}

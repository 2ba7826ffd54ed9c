// Program create-setup-key makes a key with which one machine enrols, and
// prints it:
//
//	create-setup-key -name web-1 -group "web servers" >key
//	wattle up --management-url ... --setup-key-file key
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

func main() {
	name := flag.String("name", "", "name of the key; best that of the machine")
	group := flag.String("group", "", "group that the machine joins; made if need be, empty for none")
	life := flag.Duration("life", time.Hour, "how long the key is valid")
	flag.Parse()
	if err := run(context.Background(), *name, *group, *life); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, name, group string, life time.Duration) error {
	client, err := sdk.FromProfile("")
	if err != nil {
		return err
	}
	groups := []string{}
	if group != "" {
		id, err := ensureGroup(ctx, client, group)
		if err != nil {
			return err
		}
		groups = append(groups, id)
	}
	once, seconds := api.SetupKeyRequestTypeOneOff, int(life.Seconds())
	key, err := client.CreateSetupKey(ctx, api.SetupKeyRequest{Name: name, Type: &once, ExpiresIn: &seconds, AutoGroups: &groups})
	if err != nil {
		return err
	}
	fmt.Println(key.Key) // in clear in this answer only
	return nil
}

// ensureGroup returns the id of a group by its name.
func ensureGroup(ctx context.Context, client *sdk.Client, name string) (string, error) {
	group, err := client.CreateGroup(ctx, api.GroupRequest{Name: name})
	if err == nil {
		return group.Id, nil
	}
	if !sdk.IsConflict(err) {
		return "", err
	}
	groups, err := client.ListGroups(ctx, sdk.ListGroupsOptions{Name: name})
	if err != nil {
		return "", err
	}
	return groups[0].Id, nil // a name that is not there is an error
}

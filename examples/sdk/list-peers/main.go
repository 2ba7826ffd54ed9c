// Program list-peers prints the machines of the network.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"text/tabwriter"

	"github.com/wattlenet/wattle/generated/sdk"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	client, err := sdk.FromProfile("") // what wattle-server up wrote
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	for peer, err := range client.Peers(ctx, sdk.ListPeersOptions{}) { // page after page
		if err != nil {
			return err
		}
		state := "offline since " + peer.LastSeen.Format("2006-01-02 15:04")
		if peer.Connected {
			state = "online"
		}
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", peer.Name, peer.Ip, peer.Os, state); err != nil {
			return err
		}
	}
	return table.Flush()
}

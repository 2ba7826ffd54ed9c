// Program watch-audit prints what is changed in the network, as it happens.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

func main() {
	count := flag.Int("count", 0, "end after so many events; 0 watches until it is interrupted")
	pause := flag.Duration("pause", 2*time.Second, "time between two questions")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *count, *pause); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, count int, pause time.Duration) error {
	client, err := sdk.FromProfile("")
	if err != nil {
		return err
	}
	last, printed := "", 0
	for {
		events, err := since(ctx, client, last)
		if err != nil {
			return err
		}
		for _, event := range events {
			fmt.Printf("%s  %-24s  %-20s  by %s over %s\n", event.Timestamp.Format(time.RFC3339), event.Activity, event.Meta["name"], event.InitiatorName, event.Channel)
			last = event.Id
			if printed++; printed == count {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// since returns the events after one, oldest first; the last ten when there is
// none yet.
func since(ctx context.Context, client *sdk.Client, last string) ([]api.AuditEvent, error) {
	var events []api.AuditEvent
	for event, err := range client.AuditEvents(ctx, sdk.ListAuditEventsOptions{Limit: 50}) { // newest first
		if err != nil {
			return nil, err
		}
		if event.Id == last || last == "" && len(events) == 10 {
			break
		}
		events = append(events, event)
	}
	slices.Reverse(events)
	return events, nil
}

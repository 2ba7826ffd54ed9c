package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

func newWait(a *app) *cobra.Command {
	var condition string
	var timeout time.Duration
	command := &cobra.Command{
		Use: "wait", Short: "Wait until the machine is ready, a peer is connected, or a name is known",
		Long: "Wait until something holds:\n\n" +
			"  ready      the overlay addresses exist and the rules are in force, be it with the last map\n" +
			"  connected  ready, and the control plane is connected\n" +
			"  peer:NAME  there is a path to the peer\n" +
			"  dns:NAME   the network has an address for the name\n\n" +
			"Exit code 5 when the time is over.",
		Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			request := local.WaitRequest{For: condition}
			if _, _, err := request.Condition(); err != nil {
				return exit(err)
			}
			ctx, cancel := withTimeout(command.Context(), timeout)
			defer cancel()
			err := a.client().Wait(ctx, request)
			if ctx.Err() != nil && command.Context().Err() == nil {
				return program.Exit(program.ExitTimedOut, "%s does not hold after %s; `wattle status` tells the state", condition, timeout)
			}
			return exit(err)
		},
	}
	command.Flags().StringVar(&condition, "for", "ready", "ready, connected, peer:NAME or dns:NAME")
	program.DurationFlag(command.Flags(), &timeout, "timeout", 60*time.Second, 0, "how long to wait; 0 waits for ever")
	return command
}

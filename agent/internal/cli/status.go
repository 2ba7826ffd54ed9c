package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

func newStatus(a *app) *cobra.Command {
	var asJSON, detail bool
	command := &cobra.Command{
		Use: "status", Short: "Show the state of this machine and its peers", Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			status, err := a.client().Status(command.Context())
			if err != nil {
				return exit(err)
			}
			out := command.OutOrStdout()
			if asJSON {
				return printJSON(out, status)
			}
			return screen{now: time.Now(), detail: detail}.print(out, status)
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	command.Flags().BoolVar(&detail, "detail", false, "show everything that is known")
	return command
}

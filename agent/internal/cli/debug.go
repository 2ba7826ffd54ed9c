package cli

import (
	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/internal/program"
)

func newDebug(a *app) *cobra.Command {
	command := group("debug", "Look into the daemon")
	command.AddCommand(newBundle(a), newDebugLog(a))
	return command
}

func newDebugLog(a *app) *cobra.Command {
	command := group("log", "Change the log of the daemon")
	command.AddCommand(&cobra.Command{
		Use:   "level LEVEL",
		Short: "Log from a level on until the daemon ends: debug, info, warn or error",
		Long: "Log from a level on until the daemon ends or log_level is set: debug, info, warn or error.\n" +
			"`wattle set log_level=LEVEL` keeps it.",
		Args: program.Arguments, ValidArgs: settings.LogLevels,
		RunE: func(command *cobra.Command, args []string) error {
			if _, err := program.ParseLevel(args[0]); err != nil {
				return err
			}
			return exit(a.client().SetLevel(command.Context(), local.LevelRequest{Level: args[0]}))
		},
	})
	return command
}

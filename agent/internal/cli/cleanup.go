package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/firewall"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/route"
	"github.com/wattlenet/wattle/internal/program"
)

func newCleanup() *cobra.Command {
	var stateDir string
	var keepClosed bool
	var log program.Log
	command := &cobra.Command{
		Use:   "cleanup",
		Short: "Put back what a daemon that was killed has left on this machine",
		Long: "Put back what a daemon that was killed has left on this machine: the name servers,\n" +
			"routes and forwarding, and the rules of the packet filter once the interface is gone. A\n" +
			"daemon does the same when it starts; systemd runs this command when the daemon has ended.\n\n" +
			"An exit node that fails closed stays closed while the daemon is dead, whether it was killed or\n" +
			"stopped. This command opens the machine again, unless --keep-closed says that a daemon is about\n" +
			"to start.",
		Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) (err error) {
			logger, err := log.Logger(os.Stderr)
			if err != nil {
				return err
			}
			if stateDir == "" {
				return program.Usage("--state-dir is empty; name the folder of the daemon")
			}
			store, err := identity.Open(stateDir)
			if errors.Is(err, identity.ErrInUse) {
				return program.Exit(program.ExitFailed, "a daemon runs; stop it, and it puts everything back itself")
			}
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			return cleanup(command.Context(), logger, store, keepClosed)
		},
	}
	command.Flags().StringVar(&stateDir, "state-dir", defaultStateDir(), "folder of the daemon")
	command.Flags().BoolVar(&keepClosed, "keep-closed", false, "let nothing out past an exit node that fails closed: a daemon starts again")
	log.Flags(command.Flags())
	return command
}

// cleanup puts back what an agent with this state folder has left. With keepClosed what it refused stays refused.
func cleanup(ctx context.Context, logger *slog.Logger, store *identity.Store, keepClosed bool) error {
	return errors.Join(
		firewall.Undo(keepClosed),
		system.Undo(ctx, system.Options{Logger: logger, Journal: filepath.Join(store.Dir(), system.JournalFile)}),
		route.Undo(route.Options{Logger: logger, Journal: filepath.Join(store.Dir(), route.JournalFile), KeepRefused: keepClosed}),
	)
}

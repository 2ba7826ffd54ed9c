package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/wattlenet/wattle/agent/internal/bundle"
	"github.com/wattlenet/wattle/agent/internal/engine"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/service"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/internal/program"
)

// daemonFlags are the flags of the daemon that are no settings.
type daemonFlags struct {
	log      program.Log
	stateDir string
	settings string
	given    func() (given, variables settings.Given)
	forward  forwardFlags
}

func newDaemon(a *app) *cobra.Command {
	var f daemonFlags
	command := &cobra.Command{
		Use:   "daemon",
		Short: "Hold the tunnel; the other commands talk to it",
		Long: "Hold the tunnel; the other commands talk to it. Most flags are settings, which can\n" +
			"also stand in the settings file and be changed while the daemon runs with `wattle set`;\n" +
			"the flag is the stronger source.",
		Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			return service.Daemon(command.Context(), func(ctx context.Context) error { return runDaemon(ctx, a.socket, f) })
		},
	}
	flags := command.Flags()
	flags.StringVar(&f.stateDir, "state-dir", defaultStateDir(), "folder for keys and the last network map")
	flags.StringVar(&f.settings, "settings", defaultSettings(), "file of the settings, JSON")
	f.given = settings.Flags(flags)
	f.log.FormatFlag(flags)
	f.forward.add(flags)
	return command
}

func runDaemon(ctx context.Context, socket string, f daemonFlags) (err error) {
	var level slog.LevelVar
	var tail bundle.Tail
	logger, err := f.log.Leveled(io.MultiWriter(&tail, os.Stderr), &level)
	if err != nil {
		return err
	}
	carried, err := f.forward.config()
	if err != nil {
		return err
	}
	if f.stateDir == "" {
		return program.Usage("--state-dir is empty; name a folder for keys and the last network map")
	}
	book, err := openSettings(f, &level)
	if err != nil {
		return err
	}
	store, err := identity.Open(f.stateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	// Also when the machine shall not be connected: one that was killed may have left something. What it refused goes
	// on being refused until the tunnel has its routes.
	mine, err := store.Load()
	if err != nil {
		return err
	}
	if err := cleanup(ctx, logger, store, mine != nil && mine.Enrolled() && mine.Up); err != nil {
		logger.Error("host not put back", "error", err)
	}
	agent, err := engine.New(engine.Config{
		Logger: logger, Store: store, Version: program.Version(), Settings: book, Level: &level, Tail: &tail, Forward: carried,
		Restore: func(ctx context.Context) error { return cleanup(ctx, logger, store, false) },
	})
	if err != nil {
		return err
	}
	server, err := local.Listen(ctx, local.ServerConfig{Logger: logger, Socket: socket, Daemon: agent})
	if err != nil {
		return err
	}
	logger.Info("daemon started", "version", program.Version(), "socket", socket, "state_dir", f.stateDir)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return agent.Run(ctx) })
	group.Go(func() error { return server.Serve(ctx) })
	// An answer to status passes through everything that could hang.
	group.Go(func() error { return service.Watch(ctx, func(ctx context.Context) { agent.Status(ctx) }) })
	group.Go(func() error {
		<-ctx.Done()
		return service.Stopping()
	})
	if err := service.Ready(); err != nil {
		logger.Warn("the service manager does not know that the daemon is ready", "error", err)
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	logger.Info("daemon stopped")
	return nil
}

// openSettings reads the settings and takes the level of the log from them.
func openSettings(f daemonFlags, level *slog.LevelVar) (*settings.Book, error) {
	given, variables := f.given()
	book, err := settings.Open(f.settings, given, variables)
	if err != nil {
		return nil, program.Usage("%w", err)
	}
	first, err := program.ParseLevel(book.Values(nil).LogLevel)
	if err != nil {
		return nil, err
	}
	level.Set(first)
	return book, nil
}

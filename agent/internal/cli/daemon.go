package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/wattlenet/wattle/agent/internal/dns/system"
	"github.com/wattlenet/wattle/agent/internal/engine"
	"github.com/wattlenet/wattle/agent/internal/identity"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/service"
	"github.com/wattlenet/wattle/agent/internal/tunnel"
	"github.com/wattlenet/wattle/internal/program"
)

// daemonFlags are the flags of the daemon.
type daemonFlags struct {
	log      program.Log
	stateDir string
	tunnel   string
	firewall string
	name     string
	port     uint16
	hostname string
	relays   []string
	forward  forwardFlags
	dns      string
}

func newDaemon(a *app) *cobra.Command {
	var f daemonFlags
	command := &cobra.Command{
		Use:   "daemon",
		Short: "Hold the tunnel; the other commands talk to it",
		Args:  noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			return runDaemon(command.Context(), a.socket, f)
		},
	}
	flags := command.Flags()
	flags.StringVar(&f.stateDir, "state-dir", defaultStateDir(), "folder for keys and the last network map")
	flags.StringVar(&f.tunnel, "tunnel", "auto", "kind of tunnel: auto, userspace (an interface) or netstack (no root)")
	flags.StringVar(&f.firewall, "firewall", "auto", "who enforces the rules on an interface: auto, nftables, or userspace (the daemon)")
	flags.StringVar(&f.name, "interface", tunnel.DefaultInterface, "name of the interface")
	flags.StringVar(&f.hostname, "hostname", "", "what the machine calls itself; its name in the network follows (default: the host name)")
	flags.Uint16Var(&f.port, "listen-port", 0, "UDP port of the tunnel; 0 lets the system choose")
	flags.StringSliceVar(&f.relays, "relay-transports", nil, "ways to a relay that may be used: udp, tcp, tls, websocket (default: the first of these that works)")
	f.forward.add(flags)
	flags.StringVar(&f.dns, "dns", "auto", "who is told which name servers this machine asks: auto, systemd-resolved, networkmanager, resolvconf, file (/etc/resolv.conf), or off (nobody)")
	f.log.Flags(flags)
	return command
}

// longestName is the longest name of an interface on Linux (IFNAMSIZ, less its
// last byte); the others allow no less.
const longestName = 15

// longestHostname is the longest name that the contract takes (RFC 1035, section 2.3.4).
const longestHostname = 255

func tunnelName(name string) error {
	if name == "" || len(name) > longestName || name == "." || name == ".." || strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("/:%", r)
	}) {
		return program.Usage("--interface %q cannot be the name of an interface; use at most %d letters and digits, such as wt0", name, longestName)
	}
	return nil
}

func runDaemon(ctx context.Context, socket string, f daemonFlags) (err error) {
	logger, err := f.log.Logger(os.Stderr)
	if err != nil {
		return err
	}
	mode := tunnel.Mode(f.tunnel)
	switch mode {
	case tunnel.ModeAuto, tunnel.ModeUserspace, tunnel.ModeNetstack:
	default:
		return program.Usage("tunnel %q is unknown; use auto, userspace or netstack", f.tunnel)
	}
	enforcement := engine.Enforcement(f.firewall)
	switch enforcement {
	case engine.EnforceAuto, engine.EnforceNftables, engine.EnforceUserspace:
	default:
		return program.Usage("firewall %q is unknown; use auto, nftables or userspace", f.firewall)
	}
	if !slices.Contains(system.Kinds, system.Kind(f.dns)) {
		return program.Usage("--dns %q is unknown; use one of %v", f.dns, system.Kinds)
	}
	if err := tunnelName(f.name); err != nil {
		return err
	}
	if len(f.hostname) > longestHostname {
		return program.Usage("--hostname has %d characters; a host name has at most %d", len(f.hostname), longestHostname)
	}
	for _, name := range f.relays {
		if !slices.Contains(engine.RelayTransports, name) {
			return program.Usage("--relay-transports %q is unknown; use %s", name, strings.Join(engine.RelayTransports, ", "))
		}
	}
	carried, err := f.forward.config()
	if err != nil {
		return err
	}
	if f.stateDir == "" {
		return program.Usage("--state-dir is empty; name a folder for keys and the last network map")
	}
	store, err := identity.Open(f.stateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	// Also when the machine shall not be connected: one that was killed may have left something.
	if err := cleanup(ctx, logger, store); err != nil {
		logger.Error("host not put back", "error", err)
	}
	agent, err := engine.New(engine.Config{
		Logger: logger, Store: store, Version: program.Version(), Mode: mode, Firewall: enforcement, Interface: f.name, ListenPort: f.port,
		Hostname: f.hostname, RelayTransports: f.relays, Forward: carried, DNS: system.Kind(f.dns),
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

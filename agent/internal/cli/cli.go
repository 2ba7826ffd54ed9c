// Package cli is the command line of the agent.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/route"
	"github.com/wattlenet/wattle/internal/program"
)

// app is what every command has.
type app struct {
	socket string
	client func() *local.Client
}

// New makes the command `wattle` with all below it.
func New() *cobra.Command {
	a := &app{}
	a.client = func() *local.Client { return local.NewClient(a.socket) }
	root := &cobra.Command{
		Use:   "wattle",
		Short: "Join this machine to a mesh network and look after it",
		Long: "wattle joins this machine to a Wattle network. A daemon (`wattle daemon`) holds the\n" +
			"tunnel; the other commands talk to it.",
		Args: program.UnknownCommand,
		RunE: func(command *cobra.Command, _ []string) error {
			_ = command.Help() // writes to stdout, whose failure cobra does not tell either
			return program.Usage("a command is missing")
		},
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", defaultSocket(), "socket of the daemon")
	root.AddCommand(
		newDaemon(a), newUp(a), newDown(a), newLogout(a), newStatus(a), newWait(a), newPing(a), newDNS(a),
		newNetcheck(a), newMetrics(a), newAccess(a), newTrace(a), newWhois(a), newWhoami(a), newIP(a), newRoute(a),
		newKey(a), newService(),
		newSet(a), newGet(a), newConfig(a), newDebug(a), newCleanup(), newCompletion(), newMan(), newVersion(),
	)
	root.SetHelpCommand(newHelp())
	root.CompletionOptions.DisableDefaultCmd = true
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	walk(root, markFiles)
	return root
}

func defaultSocket() string {
	switch runtime.GOOS {
	case "windows":
		return filepath.Join(os.Getenv("ProgramData"), "Wattle", "agent.sock")
	case "darwin", "freebsd":
		return "/var/run/wattle/agent.sock"
	}
	return "/run/wattle/agent.sock"
}

func defaultSettings() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "Wattle", "agent.json")
	}
	return "/etc/wattle/agent.json"
}

func defaultStateDir() string {
	switch runtime.GOOS {
	case "windows":
		return filepath.Join(os.Getenv("ProgramData"), "Wattle", "state")
	case "darwin":
		return "/Library/Application Support/Wattle"
	case "freebsd":
		return "/var/db/wattle"
	}
	return "/var/lib/wattle"
}

// exit gives an error of the daemon its exit code.
func exit(err error) error {
	var own *local.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return &program.ExitError{Code: own.Code, Err: own}
	case errors.Is(err, local.ErrUnreachable):
		if route.LeftClosed() {
			err = fmt.Errorf("%w. The exit node of this machine fails closed: nothing leaves but to local subnets meanwhile; `wattle cleanup` opens the machine", err)
		}
		return &program.ExitError{Code: program.ExitDaemonUnreachable, Err: err}
	case errors.Is(err, context.Canceled):
		return program.Exit(program.ExitFailed, "interrupted")
	}
	return err
}

// version is what `wattle version --json` prints.
type version struct {
	Schema  string `json:"schema"`
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func newVersion() *cobra.Command {
	var out *output
	command := &cobra.Command{
		Use: "version", Short: "Print the version", Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			mine := version{"wattle.version/v1", program.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
			return out.print(command.OutOrStdout(), mine, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, "wattle", mine.Version)
				return err
			})
		},
	}
	out = outputFlags(command)
	return command
}

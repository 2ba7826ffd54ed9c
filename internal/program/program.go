// Package program is what the mains of all programs have in common.
//
// A main builds its command and hands it over:
//
//	func main() { os.Exit(program.Main(newCommand())) }
package program

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Main runs the command line of the process and returns its exit code.
// The context of the command ends with the first SIGINT or SIGTERM; a second
// one ends the process at once.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return Run(ctx, root, os.Args[1:], os.Stdout, os.Stderr)
}

// Run runs a command line and returns its exit code. Every flag that was not
// given takes its value from the environment: --data-dir from WATTLE_DATA_DIR.
// An error is printed to stderr as one sentence. Run takes over the persistent
// pre-run of root; no command below it may have one.
func Run(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if root.Version == "" {
		root.Version = Version()
	}

	root.SetFlagErrorFunc(flagError)

	// What fails before the command itself begins is the command line's fault.
	started := false
	root.PersistentPreRunE = func(command *cobra.Command, _ []string) error {
		if err := flagsFromEnvironment(command.Flags()); err != nil {
			return err
		}
		if err := cmp.Or(exclude(command.Flags()), command.ValidateRequiredFlags()); err != nil {
			return err
		}
		started = true
		return nil
	}

	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitDone
	}
	var exit *ExitError
	if !started && !errors.As(err, &exit) {
		err = Usage("%w; see %s --help", err, command.CommandPath())
	}
	_, _ = fmt.Fprintf(stderr, "%s: %v\n", root.Name(), err)
	return Code(err)
}

// EnvironmentName returns the variable that stands in for a flag.
func EnvironmentName(flag string) string {
	return "WATTLE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// flagsFromEnvironment sets the flags that the command line left out. An empty
// variable counts as absent, so that a unit file can leave one blank.
func flagsFromEnvironment(flags *pflag.FlagSet) error {
	var faults []error
	flags.VisitAll(func(flag *pflag.Flag) {
		value := os.Getenv(EnvironmentName(flag.Name))
		if flag.Changed || value == "" || flag.Name == "help" || flag.Name == "version" {
			return
		}
		if err := flags.Set(flag.Name, value); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", EnvironmentName(flag.Name), valueError(err)))
			return
		}
		if flag.Annotations == nil {
			flag.Annotations = map[string][]string{}
		}
		flag.Annotations[environmentMark] = []string{value}
	})
	return errors.Join(faults...)
}

// environmentMark stands on flags that a variable has set.
const environmentMark = "wattle_environment"

// FromEnvironment reports whether a variable has set the flag.
func FromEnvironment(flag *pflag.Flag) bool { return flag.Annotations[environmentMark] != nil }

package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

// The checks of `wattle status --check`.
var statusChecks = []string{"live", "ready", "connected", "healthy"}

// statusOptions are the flags of `wattle status`.
type statusOptions struct {
	detail, watch bool
	peer, check   string
	form          *output
}

func newStatus(a *app) *cobra.Command {
	var o statusOptions
	command := &cobra.Command{
		Use: "status", Short: "Show the state of this machine and its peers",
		Long: "Show the state of this machine and its peers. --json is one valid document in every\n" +
			"state, before enrolment too; with --watch one line each time that something changes.\n\n" +
			"--check prints nothing but the reason when it does not hold:\n\n" +
			"  live       the daemon answers (exit code 3 if not)\n" +
			"  ready      the overlay works, be it with the last map (4 before enrolment, 5 if not)\n" +
			"  connected  ready, and the control plane is connected (7 if not)\n" +
			"  healthy    connected, and nothing is to be warned of (1 if not)",
		Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if o.check != "" && !slices.Contains(statusChecks, o.check) {
				return program.Usage("--check %q is unknown; use %s", o.check, strings.Join(statusChecks, ", "))
			}
			if o.watch {
				return o.follow(command, a)
			}
			status, err := a.client().Status(command.Context())
			if err != nil {
				return exit(err)
			}
			if o.check != "" {
				return checkStatus(status, o.check)
			}
			if err := o.narrow(&status); err != nil {
				return err
			}
			return o.form.print(command.OutOrStdout(), status, func(w io.Writer) error { return o.show(w, status) })
		},
	}
	flags := command.Flags()
	flags.BoolVar(&o.detail, "detail", false, "show everything that is known")
	flags.BoolVarP(&o.watch, "watch", "w", false, "show it again whenever it changes, until interrupted")
	flags.StringVar(&o.peer, "peer", "", "show this peer alone: its name, full name or overlay address")
	flags.StringVar(&o.check, "check", "", "only check: "+strings.Join(statusChecks, ", "))
	o.form = outputFlags(command)
	program.Exclusive(command, "check", "watch")
	completeWords(command, "check", statusChecks)
	_ = command.RegisterFlagCompletionFunc("peer", a.completePeers) // it is there, and once
	return command
}

func (o *statusOptions) show(w io.Writer, status local.Status) error {
	return screen{now: time.Now(), detail: o.detail, colours: colours(w)}.print(w, status)
}

// narrow leaves the peer that was asked for.
func (o *statusOptions) narrow(status *local.Status) error {
	if o.peer == "" {
		return nil
	}
	status.Peers = slices.DeleteFunc(slices.Clone(status.Peers), func(p local.Peer) bool {
		return !p.Is(o.peer) && !strings.EqualFold(p.Name+strings.TrimPrefix(status.FQDN, status.Name), strings.TrimSuffix(o.peer, "."))
	})
	if len(status.Peers) == 0 {
		return program.Exit(program.ExitFailed, "no peer %q: either no machine has this name, or no policy connects it with this one; `wattle status` lists the peers", o.peer)
	}
	return nil
}

// clearScreen moves to the first cell and erases (ECMA-48, sections 8.3.21 and 8.3.39).
const clearScreen = "\x1b[H\x1b[2J"

func (o *statusOptions) follow(command *cobra.Command, a *app) error {
	out := command.OutOrStdout()
	err := a.client().WatchStatus(command.Context(), func(status local.Status) error {
		if err := o.narrow(&status); err != nil && o.form.forPeople() {
			status.Peers = nil // it may come
		}
		if !o.form.forPeople() {
			return o.form.line(out, status)
		}
		before := "\n"
		if onTerminal(out) {
			before = clearScreen
		}
		if _, err := io.WriteString(out, before); err != nil {
			return err
		}
		return o.show(out, status)
	})
	if command.Context().Err() == nil {
		return exit(err)
	}
	return nil // an interrupt is the way to end it
}

// checkStatus is the failure of a check that does not hold.
func checkStatus(status local.Status, check string) error {
	switch {
	case check == "live":
		return nil
	case status.State == local.StateNotEnrolled:
		return program.Exit(program.ExitNotEnrolled, "this machine is not enrolled; run `wattle up`")
	case !status.Ready():
		return program.Exit(program.ExitTimedOut, "not ready: the machine is %s%s", strings.ReplaceAll(status.State, "_", " "), becauseOf(status))
	case check != "ready" && status.State != local.StateReady:
		return program.Exit(program.ExitControlPlaneUnreachable, "the control plane is not connected%s", becauseOf(status))
	case check == "healthy" && len(status.Warnings) > 0:
		return program.Exit(program.ExitFailed, "not all is well%s", becauseOf(status))
	}
	return nil
}

func becauseOf(status local.Status) string {
	switch {
	case status.Management.Error != "":
		return fmt.Sprintf(": %s", status.Management.Error)
	case len(status.Warnings) > 0:
		return fmt.Sprintf(": %s", status.Warnings[0])
	}
	return "; `wattle status` tells more"
}

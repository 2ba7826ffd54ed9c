package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

// maxSetupKey bounds what is read from a key file.
const maxSetupKey = 4 << 10

func newUp(a *app) *cobra.Command {
	var url, key, keyFile, pin string
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "up",
		Short: "Connect this machine, enrolling it first if needed",
		Long: "Connect this machine and wait until it is usable. The first time it needs the\n" +
			"address of the control plane and a setup key; afterwards `wattle up` is enough.\n" +
			"Repeating it does no harm.",
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if key != "" && command.Flags().Changed("setup-key") && os.Getenv(program.EnvironmentName("setup-key")) != key {
				_, _ = fmt.Fprintln(command.ErrOrStderr(),
					"warning: other users of this machine can read --setup-key in the process list; --setup-key-file FILE (or - for stdin) keeps it secret")
			}
			secret, err := setupKey(command.InOrStdin(), key, keyFile)
			if err != nil {
				return err
			}
			request := local.UpRequest{ManagementURL: url, SetupKey: secret, CAPin: pin, TimeoutSeconds: timeout.Seconds()}
			if err := a.client().Up(command.Context(), request); err != nil {
				return exit(err)
			}
			return printUp(command.OutOrStdout(), command, a)
		},
	}
	flags := command.Flags()
	flags.StringVar(&url, "management-url", "", "address of the control plane, such as https://mesh.example:8443")
	flags.StringVar(&key, "setup-key", "", "setup key; better give it in a file")
	flags.StringVar(&keyFile, "setup-key-file", "", "file that holds the setup key; - reads it from stdin")
	flags.StringVar(&pin, "ca-pin", "", "pin of the control plane's certificate authority: sha256: and 64 hexadecimal digits")
	flags.DurationVar(&timeout, "timeout", 60*time.Second, "how long to wait until the machine is usable")
	return command
}

// setupKey returns the key from the flag or the file, empty when neither is given.
func setupKey(stdin io.Reader, key, file string) (string, error) {
	switch {
	case key != "" && file != "":
		return "", program.Usage("--setup-key and --setup-key-file are both given; give one")
	case key != "":
		return strings.TrimSpace(key), nil
	case file == "":
		return "", nil
	}
	source := stdin
	if file != "-" {
		opened, err := os.Open(file) //nolint:gosec // the user names the file
		if err != nil {
			return "", fmt.Errorf("read the setup key: %w", err)
		}
		defer func() { _ = opened.Close() }() // only read
		source = opened
	}
	raw, err := io.ReadAll(io.LimitReader(source, maxSetupKey))
	if err != nil {
		return "", fmt.Errorf("read the setup key: %w", err)
	}
	secret := strings.TrimSpace(string(raw))
	if secret == "" {
		return "", fmt.Errorf("the setup key in %s is empty", file)
	}
	return secret, nil
}

func printUp(w io.Writer, command *cobra.Command, a *app) error {
	status, err := a.client().Status(command.Context())
	if err != nil {
		return exit(err)
	}
	_, err = fmt.Fprintf(w, "connected as %s (%s), %d peers\n", status.FQDN, strings.Join(status.Addresses, ", "), len(status.Peers))
	for _, warning := range status.Warnings {
		_, _ = fmt.Fprintln(command.ErrOrStderr(), "warning:", warning)
	}
	return err
}

func newDown(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Disconnect this machine; `wattle up` connects it again", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return exit(a.client().Down(command.Context()))
		},
	}
}

func newLogout(a *app) *cobra.Command {
	var remove bool
	command := &cobra.Command{
		Use: "logout", Short: "Forget this machine's identity", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return exit(a.client().Logout(command.Context(), local.LogoutRequest{Delete: remove}))
		},
	}
	command.Flags().BoolVar(&remove, "delete", false, "delete the peer on the control plane too")
	return command
}

func newWait(a *app) *cobra.Command {
	var condition string
	var timeout time.Duration
	command := &cobra.Command{
		Use: "wait", Short: "Wait until the machine is ready, or a peer is connected", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := withTimeout(command.Context(), timeout)
			defer cancel()
			err := a.client().Wait(ctx, local.WaitRequest{For: condition})
			if ctx.Err() != nil && command.Context().Err() == nil {
				return program.Exit(program.ExitTimedOut, "%s does not hold after %s; `wattle status` tells the state", condition, timeout)
			}
			return exit(err)
		},
	}
	command.Flags().StringVar(&condition, "for", "ready", "ready, or peer:NAME")
	command.Flags().DurationVar(&timeout, "timeout", 60*time.Second, "how long to wait; 0 waits for ever")
	return command
}

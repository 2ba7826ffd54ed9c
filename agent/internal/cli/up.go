package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

// maxSetupKey bounds what is read from a key file.
const maxSetupKey = 4 << 10

func newUp(a *app) *cobra.Command {
	var url, key, keyFile, pin string
	var labels []string
	var insecure bool
	var timeout time.Duration
	var out *output
	command := &cobra.Command{
		Use:   "up",
		Short: "Connect this machine, enrolling it first if needed",
		Long: "Connect this machine and wait until it is usable. The first time it needs the\n" +
			"address of the control plane and a setup key; afterwards `wattle up` is enough.\n" +
			"Repeating it does no harm. Without a flag the setup key is taken from the systemd\n" +
			"credential setup-key (LoadCredential=setup-key:FILE) when there is one.",
		Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if key != "" && command.Flags().Changed("setup-key") && os.Getenv(program.EnvironmentName("setup-key")) != key {
				_, _ = fmt.Fprintln(command.ErrOrStderr(),
					"warning: other users of this machine can read --setup-key in the process list; --setup-key-file FILE (or - for stdin) keeps it secret")
			}
			if key == "" && command.Flags().Changed("setup-key") {
				return program.Usage("the setup key is empty; is the variable that holds it set?")
			}
			if err := checkManagement(url, pin, insecure); err != nil {
				return err
			}
			secret, err := setupKey(command.InOrStdin(), key, cmp.Or(keyFile, credential(key)))
			if err != nil {
				return err
			}
			request := local.UpRequest{ManagementURL: url, SetupKey: secret, CAPin: pin, ExtraDNSLabels: labels, InsecureHTTP: insecure, TimeoutSeconds: timeout.Seconds()}
			if err := a.client().Up(command.Context(), request); err != nil {
				return exit(err)
			}
			return printUp(command, a, out)
		},
	}
	flags := command.Flags()
	flags.StringVar(&url, "management-url", "", "address of the control plane, such as https://mesh.example:8443")
	flags.StringVar(&key, "setup-key", "", "setup key; better give it in a file")
	flags.StringVar(&keyFile, "setup-key-file", "", "file that holds the setup key; - reads it from stdin")
	flags.StringVar(&pin, "ca-pin", "", "pin of the control plane's certificate authority: sha256: and 64 hexadecimal digits")
	flags.StringSliceVar(&labels, "extra-dns-labels", nil, "further DNS names for this machine, as labels with commas between; the setup key must allow them")
	flags.BoolVar(&insecure, "insecure-http", false, "take a management URL that begins with http: and is not on this machine")
	program.DurationFlag(flags, &timeout, "timeout", 60*time.Second, time.Second, "how long to wait until the machine is usable")
	out = outputFlags(command)
	return command
}

// checkManagement refuses an address or a pin that cannot be one; empty ones are the daemon's to fill in.
func checkManagement(url, pin string, insecure bool) error {
	if url != "" {
		if _, err := control.ParseAddress(url, insecure); err != nil {
			return program.Usage("%w", err)
		}
	}
	if pin != "" {
		if _, err := control.ParsePin(pin); err != nil {
			return program.Usage("%w", err)
		}
	}
	return nil
}

// credential is the file of the systemd credential setup-key (systemd.exec(5));
// empty when there is none, or when a key is given in another way.
func credential(key string) string {
	folder := os.Getenv("CREDENTIALS_DIRECTORY")
	if key != "" || folder == "" {
		return ""
	}
	path := filepath.Join(folder, "setup-key")
	if _, err := os.Stat(path); err != nil { //nolint:gosec // systemd names the folder
		return ""
	}
	return path
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
	secret, err := readSetupKey(stdin, file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no setup key file %s; check --setup-key-file", file)
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("the setup key file %s may not be read by this user; run the command with sudo", file)
	case err != nil:
		return "", fmt.Errorf("read the setup key: %w", err)
	case secret == "":
		return "", fmt.Errorf("the setup key file %s is empty; write the key into it", file)
	case len(secret) >= maxSetupKey:
		return "", fmt.Errorf("the file %s is too long for a setup key; check --setup-key-file", file)
	}
	return secret, nil
}

func readSetupKey(stdin io.Reader, file string) (string, error) {
	source := stdin
	if file != "-" {
		opened, err := os.Open(file) //nolint:gosec // the user names the file
		if err != nil {
			return "", err
		}
		defer func() { _ = opened.Close() }() // only read
		source = opened
	}
	raw, err := io.ReadAll(io.LimitReader(source, maxSetupKey))
	// An editor on Windows may begin a file with a byte order mark.
	return strings.TrimSpace(strings.TrimPrefix(string(raw), "\ufeff")), err
}

// connected is what `wattle up --json` prints.
type connected struct {
	Schema    string   `json:"schema"`
	Name      string   `json:"name"`
	FQDN      string   `json:"fqdn"`
	PeerID    string   `json:"peer_id"`
	Addresses []string `json:"addresses"`
	Peers     int      `json:"peers"`
	Warnings  []string `json:"warnings"`
}

func printUp(command *cobra.Command, a *app, out *output) error {
	status, err := a.client().Status(command.Context())
	if err != nil {
		return exit(err)
	}
	document := connected{"wattle.up/v1", status.Name, status.FQDN, status.PeerID, status.Addresses, len(status.Peers), status.Warnings}
	err = out.print(command.OutOrStdout(), document, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "connected as %s (%s), %s\n", status.FQDN, strings.Join(status.Addresses, ", "), count(len(status.Peers), "peer"))
		return err
	})
	for _, warning := range status.Warnings {
		_, _ = fmt.Fprintln(command.ErrOrStderr(), "warning:", warning)
	}
	return err
}

func newDown(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Disconnect this machine; `wattle up` connects it again", Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			return exit(a.client().Down(command.Context()))
		},
	}
}

func newLogout(a *app) *cobra.Command {
	var remove bool
	command := &cobra.Command{
		Use: "logout", Short: "Forget this machine's identity", Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			return exit(a.client().Logout(command.Context(), local.LogoutRequest{Delete: remove}))
		},
	}
	command.Flags().BoolVar(&remove, "delete", false, "delete the peer on the control plane too")
	return command
}

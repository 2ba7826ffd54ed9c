package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

func newKey(a *app) *cobra.Command {
	command := group("key", "Look after the key of this machine")
	command.AddCommand(newKeyRotate(a))
	return command
}

func newKeyRotate(a *app) *cobra.Command {
	var timeout time.Duration
	var out *output
	command := &cobra.Command{
		Use: "rotate", Short: "Replace the WireGuard key by a new one", Args: program.Arguments,
		Long: "Replace this machine's WireGuard key by a new one and print it. Those whom packets flow\n" +
			"to hear of it before it is used, so no packet is lost. The account setting\n" +
			"key_rotation_days does the same on a schedule.",
		RunE: func(command *cobra.Command, _ []string) error {
			client := a.client()
			if err := client.RotateKey(command.Context(), local.RotateKeyRequest{TimeoutSeconds: timeout.Seconds()}); err != nil {
				return exit(err)
			}
			status, err := client.Status(command.Context())
			if err != nil {
				return exit(err)
			}
			rotated := rotatedKey{Schema: "wattle.key/v1", PublicKey: status.PublicKey, Since: status.PublicKeySince}
			return out.print(command.OutOrStdout(), rotated, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, rotated.PublicKey)
				return err
			})
		},
	}
	program.DurationFlag(command.Flags(), &timeout, "timeout", time.Minute, time.Second, "how long to wait for the new key to be in use")
	out = outputFlags(command)
	return command
}

// rotatedKey is the document of `wattle key rotate`.
type rotatedKey struct {
	Schema    string     `json:"schema"`
	PublicKey string     `json:"public_key"`
	Since     *time.Time `json:"since,omitempty"`
}

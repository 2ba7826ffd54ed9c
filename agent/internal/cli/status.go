package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
)

func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

func newStatus(a *app) *cobra.Command {
	var asJSON, detail bool
	command := &cobra.Command{
		Use: "status", Short: "Show the state of this machine and its peers", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			status, err := a.client().Status(command.Context())
			if err != nil {
				return exit(err)
			}
			out := command.OutOrStdout()
			if asJSON {
				return printJSON(out, status)
			}
			if err := printStatus(out, status, detail); err != nil {
				return err
			}
			return printPeers(out, status, detail)
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	command.Flags().BoolVar(&detail, "detail", false, "show everything that is known")
	return command
}

// printStatus writes one fact a line.
func printStatus(w io.Writer, s local.Status, detail bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...)) // Flush tells
	}
	row("state", "%s", strings.ReplaceAll(s.State, "_", " "))
	if s.FQDN != "" {
		row("name", "%s", s.FQDN)
	}
	if len(s.Addresses) > 0 {
		row("addresses", "%s", strings.Join(s.Addresses, ", "))
	}
	if s.Management.URL != "" {
		row("control plane", "%s (%s)", s.Management.URL, connection(s.Management))
	}
	if detail {
		printDetail(row, s)
	}
	for _, warning := range s.Warnings {
		row("warning", "%s", warning)
	}
	return table.Flush()
}

func connection(m local.Management) string {
	switch {
	case m.Connected:
		return "connected"
	case m.Error != "":
		return m.Error
	}
	return "not connected"
}

func printDetail(row func(name, format string, args ...any), s local.Status) {
	row("version", "%s", s.Version)
	if s.PeerID != "" {
		row("peer", "%s of account %s", s.PeerID, s.AccountID)
		row("public key", "%s", s.PublicKey)
	}
	if s.Map.Epoch != "" {
		row("map", "serial %d of %s, digest %s", s.Map.Serial, s.Map.Epoch, s.Map.Digest)
	}
	if s.Tunnel.Mode == "" {
		return
	}
	row("tunnel", "%s %s, UDP port %d", s.Tunnel.Mode, s.Tunnel.Interface, s.Tunnel.ListenPort)
	if s.Tunnel.Reason != "" {
		row("", "because %s", s.Tunnel.Reason)
	}
	row("firewall", "%s, %d rules", s.Firewall.Kind, s.Firewall.Rules)
	row("names", "%s at %s", s.DNS.Domain, cmp.Or(strings.Join(s.DNS.Addresses, ", "), "no address"))
	switch {
	case s.Relay.Server != "":
		row("relay", "%s over %s, seen as %s", s.Relay.Server, s.Relay.Transport, cmp.Or(s.Relay.Mapped, "unknown"))
	case s.Relay.Error != "":
		row("relay", "none: %s", s.Relay.Error)
	default:
		row("relay", "none")
	}
}

func printPeers(w io.Writer, s local.Status, detail bool) error {
	if len(s.Peers) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header := "PEER\tADDRESS\tPATH\tRTT\tHANDSHAKE\tRECEIVED\tSENT"
	if detail {
		header += "\tREMOTE\tLAST ERROR"
	}
	_, _ = fmt.Fprintln(table, header) // Flush tells
	for _, p := range s.Peers {
		line := []string{
			p.Name, first(p.Addresses), path(p), rtt(p.RTTMillis), age(p.LastHandshake), size(p.ReceivedBytes), size(p.SentBytes),
		}
		if detail {
			line = append(line, cmp.Or(p.Remote, "-"), cmp.Or(p.LastError, "-"))
		}
		_, _ = fmt.Fprintln(table, strings.Join(line, "\t"))
	}
	return table.Flush()
}

func first(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return list[0]
}

func path(p local.Peer) string {
	if p.Reason == "" {
		return p.Path
	}
	return p.Path + " (" + reasonText(p.Reason) + ")"
}

// reasonText says why a path is not direct.
func reasonText(reason string) string {
	switch reason {
	case "udp_blocked":
		return "UDP is blocked here"
	case "hard_nat_both":
		return "both NATs map by destination"
	case "no_answer":
		return "no direct check was answered"
	case "peer_offline_signal":
		return "the peer does not answer"
	case "policy_relay":
		return "the network wants the relay"
	case "route_captured":
		return "a route leads the peer's address into the tunnel"
	case "mtu":
		return "the direct path carries no full packet"
	case "checking":
		return "looking for a direct path"
	case "relay_only_mode":
		return "relay only, as configured"
	}
	return strings.ReplaceAll(reason, "_", " ")
}

func rtt(millis float64) string {
	if millis == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", millis)
}

func age(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return time.Since(*t).Round(time.Second).String() + " ago"
}

func size(n uint64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

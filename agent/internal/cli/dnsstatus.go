package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

// dnsStatus is what `wattle dns status --json` prints.
type dnsStatus struct {
	Schema string `json:"schema"`
	local.DNS
}

func newDNSStatus(a *app) *cobra.Command {
	var out *output
	command := &cobra.Command{
		Use:   "status",
		Short: "Show who answers for names on this machine, and who is asked for the rest",
		Args:  program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			status, err := a.enrolled(command)
			if err != nil {
				return err
			}
			return out.print(command.OutOrStdout(), dnsStatus{"wattle.dns-status/v1", status.DNS}, func(w io.Writer) error {
				return printDNS(w, status.DNS)
			})
		},
	}
	out = outputFlags(command)
	return command
}

func printDNS(w io.Writer, d local.DNS) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...)) // Flush tells
	}
	row("domain", "%s", dash(d.Domain))
	row("answers at", "%s", dash(strings.Join(d.Addresses, ", ")))
	switch {
	case !d.Set:
		row("asked by", "nobody on this machine")
	case d.AllNames:
		row("asked by", "%s, for every name", d.Kind)
	default:
		row("asked by", "%s, for %s", d.Kind, dash(strings.Join(d.Domains, ", ")))
	}
	if len(d.Search) > 0 {
		row("search", "%s", strings.Join(d.Search, ", "))
	}
	for _, group := range d.Groups {
		names := "every name"
		if len(group.Domains) > 0 {
			names = strings.Join(group.Domains, ", ")
		}
		row("asks", "%s for %s", strings.Join(group.Servers, ", "), names)
	}
	if len(d.FormerServers) > 0 {
		row("asks", "%s for the rest", strings.Join(d.FormerServers, ", "))
	}
	if d.Error != "" {
		row("error", "%s", d.Error)
	}
	return table.Flush()
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/control"
	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/mark"
	"github.com/wattlenet/wattle/agent/internal/netcheck"
	"github.com/wattlenet/wattle/internal/program"
)

func newNetcheck(a *app) *cobra.Command {
	var out *output
	var expect []string
	var request local.NetcheckRequest
	command := &cobra.Command{
		Use:   "netcheck",
		Short: "Measure what the network around this machine lets through",
		Long: "Measure what the network around this machine lets through: UDP, how the NAT behaves,\n" +
			"whether the gateway forwards ports, IPv6, the relays, clock, captive portal and MTU. It\n" +
			"works before enrolment, and without a daemon. Exit code 10 when --expect does not hold.",
		Example: "wattle netcheck\nwattle netcheck --management-url https://mesh.example:8443 --expect udp,relay,clock",
		Args:    program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if _, err := (&netcheck.Report{}).Differences(expect); err != nil {
				return program.Usage("--expect: %v", err)
			}
			const shown = true // nothing secret is sent, so plain HTTP will do
			if err := checkManagement(request.ManagementURL, request.CAPin, shown); err != nil {
				return err
			}
			report, err := a.client().Netcheck(command.Context(), request)
			if errors.Is(err, local.ErrUnreachable) {
				report, err = netcheckHere(command.Context(), request)
			}
			if err != nil {
				return exit(err)
			}
			err = out.print(command.OutOrStdout(), report, func(w io.Writer) error { return printNetcheck(w, report, colours(w)) })
			if err != nil {
				return err
			}
			differences, err := report.Differences(expect)
			if err == nil && len(differences) > 0 {
				return program.Exit(program.ExitDifferent, "%s", strings.Join(differences, "; "))
			}
			return err
		},
	}
	out = outputFlags(command)
	flags := command.Flags()
	flags.StringSliceVar(&request.STUN, "stun", nil, "further STUN servers, HOST or HOST:PORT; two tell how the NAT maps")
	flags.StringVar(&request.ManagementURL, "management-url", "", "control plane to ask (default: the one that the machine is enrolled at)")
	flags.StringVar(&request.CAPin, "ca-pin", "", "pin of its certificate authority")
	flags.StringSliceVar(&expect, "expect", nil, "what must be found: "+strings.Join(netcheck.Expectations, ", "))
	return command
}

// netcheckHere measures in this process, when no daemon does.
func netcheckHere(ctx context.Context, request local.NetcheckRequest) (report netcheck.Report, err error) {
	c := netcheck.Config{
		Logger: program.Quiet(), Control: mark.Socket, Servers: netcheck.Named(request.STUN), ManagementURL: request.ManagementURL,
	}
	if len(c.Servers) == 0 {
		c.Servers = netcheck.BesideManagement(c.ManagementURL)
	}
	if address, err := url.Parse(c.ManagementURL); err == nil && c.ManagementURL != "" {
		if c.TLS, err = control.TLS(address.Hostname(), request.CAPin); err != nil {
			return report, program.Usage("%w", err)
		}
	}
	return netcheck.Run(ctx, c)
}

func printNetcheck(w io.Writer, r netcheck.Report, p palette) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...)) // Flush tells
	}
	row("IPv4", "%s", familyText(r.IPv4))
	row("IPv6", "%s", familyText(r.IPv6))
	row("NAT", "%s", natText(r))
	switch {
	case r.PortMapping.Protocol != "":
		row("port mapping", "%s by %s, outside %s", r.PortMapping.Protocol, r.PortMapping.Gateway, r.PortMapping.External)
	default:
		row("port mapping", "none%s", prefixed(": ", r.PortMapping.Error))
	}
	if r.Management.URL != "" {
		row("control plane", "%s", managementText(r.Management))
	}
	row("captive portal", "%s", r.CaptivePortal)
	for i, server := range nearestFirst(r.Servers) {
		name := ""
		if i == 0 {
			name = "servers"
		}
		row(name, "%s", serverText(server))
	}
	for _, warning := range r.Warnings {
		row("warning", "%s", p.paint(yellow, warning))
	}
	return table.Flush()
}

func familyText(f netcheck.Family) string {
	switch {
	case f.Address == "":
		return "no way out"
	case !f.UDP:
		return f.Address + ", no answer over UDP"
	}
	text := f.Address + ", seen as " + f.Mapped
	if f.MTU != 0 {
		text += fmt.Sprintf(", packets of %d bytes pass", f.MTU)
	}
	return text
}

func natText(r netcheck.Report) string {
	words := map[string]string{
		netcheck.None: "none", netcheck.EndpointIndependent: "maps every destination alike", netcheck.AddressDependent: "maps by address of the destination",
		netcheck.AddressAndPortDependent: "maps by address and port of the destination",
	}
	text, known := words[r.NAT.Mapping]
	if !known {
		return "unknown: two servers that answer are needed to tell"
	}
	if r.NAT.Mapping == netcheck.None {
		return text
	}
	if r.NAT.PreservesPort {
		text += ", keeps the port"
	}
	if r.NAT.Hairpin {
		text += ", leads back in"
	}
	if r.NAT.Filtering != netcheck.Unknown {
		text += "; filtering: " + strings.ReplaceAll(r.NAT.Filtering, "_", " ")
	}
	return text
}

func managementText(m netcheck.Management) string {
	if !m.Reached {
		return m.URL + " is not reached: " + m.Error
	}
	text := fmt.Sprintf("%s, %.1f ms", m.URL, m.RTTMillis)
	if m.ClockKnown {
		text += fmt.Sprintf(", clocks differ by %.0f s", max(m.ClockOffsetSeconds, -m.ClockOffsetSeconds))
	}
	return text
}

// nearestFirst sorts those that answer over UDP before the others.
func nearestFirst(list []netcheck.Answer) []netcheck.Answer {
	return slices.SortedStableFunc(slices.Values(list), func(a, b netcheck.Answer) int {
		switch {
		case a.UDP == b.UDP:
			return cmp.Compare(a.RTTMillis, b.RTTMillis)
		case a.UDP:
			return -1
		}
		return 1
	})
}

func serverText(a netcheck.Answer) string {
	kind := "STUN"
	if a.Relay {
		kind = "relay"
	}
	text := fmt.Sprintf("%s %s%s", kind, a.Host, prefixed(" in ", a.Region))
	if a.UDP {
		text += fmt.Sprintf(", UDP %.1f ms", a.RTTMillis)
	}
	if a.TCP {
		text += fmt.Sprintf(", TCP %.1f ms", a.TCPMillis)
	}
	return text + prefixed(", ", a.Error)
}

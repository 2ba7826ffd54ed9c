package cli

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

func newWhois(a *app) *cobra.Command {
	var out *output
	command := &cobra.Command{
		Use:   "whois ADDRESS",
		Short: "Say who has an overlay address, a name, or an address behind machines",
		Args:  program.Arguments,
		RunE: func(command *cobra.Command, args []string) error {
			answer, err := a.client().Whois(command.Context(), local.WhoisRequest{Address: args[0]})
			if err != nil {
				return exit(err)
			}
			return out.print(command.OutOrStdout(), answer, func(w io.Writer) error { return printWhois(w, answer) })
		},
		ValidArgsFunction: a.completeOne,
	}
	out = outputFlags(command)
	return command
}

func printWhois(w io.Writer, answer local.WhoisAnswer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", name, value) // Flush tells
		}
	}
	what := map[string]string{
		local.WhoSelf: "this machine", local.WhoPeer: "a peer", local.WhoRoute: "an address behind machines of the network",
	}
	row("is", what[answer.Kind])
	row("name", answer.Name)
	row("full name", answer.FQDN)
	row("addresses", strings.Join(answer.Addresses, ", "))
	row("range", answer.Prefix)
	row("routers", strings.Join(answer.Routers, ", "))
	row("peer", answer.ID)
	row("public key", answer.PublicKey)
	return table.Flush()
}

// whoami is what `wattle whoami --json` prints.
type whoami struct {
	Schema        string   `json:"schema"`
	Name          string   `json:"name"`
	FQDN          string   `json:"fqdn"`
	PeerID        string   `json:"peer_id"`
	AccountID     string   `json:"account_id"`
	Addresses     []string `json:"addresses"`
	PublicKey     string   `json:"public_key"`
	ManagementURL string   `json:"management_url"`
}

// enrolled asks for the status of a machine that is a peer.
func (a *app) enrolled(command *cobra.Command) (local.Status, error) {
	status, err := a.client().Status(command.Context())
	if err == nil && status.State == local.StateNotEnrolled {
		return status, program.Exit(program.ExitNotEnrolled, "this machine is not enrolled; run `wattle up`")
	}
	return status, exit(err)
}

func newWhoami(a *app) *cobra.Command {
	var out *output
	command := &cobra.Command{
		Use: "whoami", Short: "Say who this machine is in the network", Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			status, err := a.enrolled(command)
			if err != nil {
				return err
			}
			mine := whoami{
				"wattle.whoami/v1", status.Name, status.FQDN, status.PeerID, status.AccountID, status.Addresses, status.PublicKey, status.Management.URL,
			}
			return out.print(command.OutOrStdout(), mine, func(w io.Writer) error {
				table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				for _, row := range [][2]string{
					{"name", mine.Name},
					{"full name", mine.FQDN},
					{"addresses", strings.Join(mine.Addresses, ", ")},
					{"peer", mine.PeerID},
					{"account", mine.AccountID},
					{"public key", mine.PublicKey},
					{"control plane", mine.ManagementURL},
				} {
					_, _ = fmt.Fprintf(table, "%s\t%s\n", row[0], dash(row[1])) // Flush tells
				}
				return table.Flush()
			})
		},
	}
	out = outputFlags(command)
	return command
}

// addressList is what `wattle ip --json` prints.
type addressList struct {
	Schema    string   `json:"schema"`
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
}

func newIP(a *app) *cobra.Command {
	var out *output
	var four, six bool
	command := &cobra.Command{
		Use:   "ip [PEER]",
		Short: "Print the overlay addresses of this machine or a peer",
		Args:  program.Arguments,
		RunE: func(command *cobra.Command, args []string) error {
			status, err := a.enrolled(command)
			if err != nil {
				return err
			}
			list := addressList{Schema: "wattle.ip/v1", Name: status.Name, Addresses: status.Addresses}
			if len(args) == 1 {
				found, err := a.client().Whois(command.Context(), local.WhoisRequest{Address: args[0]})
				if err != nil {
					return exit(err)
				}
				list.Name, list.Addresses = found.Name, found.Addresses
			}
			list.Addresses = ofFamily(list.Addresses, four, six)
			if len(list.Addresses) == 0 {
				return program.Exit(program.ExitFailed, "%s has no such address", dash(list.Name))
			}
			return out.print(command.OutOrStdout(), list, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, strings.Join(list.Addresses, "\n"))
				return err
			})
		},
		ValidArgsFunction: a.completeOne,
	}
	out = outputFlags(command)
	command.Flags().BoolVarP(&four, "ipv4", "4", false, "the IPv4 address alone")
	command.Flags().BoolVarP(&six, "ipv6", "6", false, "the IPv6 address alone")
	program.Exclusive(command, "ipv4", "ipv6")
	return command
}

func ofFamily(list []string, four, six bool) []string {
	wanted := []string{}
	for _, text := range list {
		addr, err := netip.ParseAddr(text)
		if err == nil && (!four || addr.Is4()) && (!six || addr.Is6()) {
			wanted = append(wanted, text)
		}
	}
	return wanted
}

// routeList is what `wattle route list --json` prints.
type routeList struct {
	Schema string        `json:"schema"`
	Routes []local.Route `json:"routes"`
}

func newRoute(a *app) *cobra.Command {
	command := group("route", "Look at what lies behind machines of the network")
	command.AddCommand(newRouteList(a))
	return command
}

func newRouteList(a *app) *cobra.Command {
	var out *output
	command := &cobra.Command{
		Use: "list", Short: "List the destinations that this machine uses or serves", Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			status, err := a.enrolled(command)
			if err != nil {
				return err
			}
			return out.print(command.OutOrStdout(), routeList{"wattle.routes/v1", status.Routes}, func(w io.Writer) error {
				return printRoutes(w, status.Routes)
			})
		},
	}
	out = outputFlags(command)
	return command
}

func printRoutes(w io.Writer, routes []local.Route) error {
	if len(routes) == 0 {
		_, err := fmt.Fprintln(w, "no destination: no policy lets this machine use one, and it serves none")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "DESTINATION\tNAME\tROLE\tROUTER\tOTHERS\tNOTE") // Flush tells
	for _, r := range routes {
		where := append([]string{}, r.Domains...)
		if r.Prefix != "" {
			where = append(where, r.Prefix)
		}
		others := slices.DeleteFunc(slices.Clone(r.Routers), func(name string) bool { return name == r.Router })
		note := r.Note
		if r.Masquerade {
			note = strings.TrimPrefix(note+", masquerade", ", ")
		}
		line := []string{strings.Join(where, ", "), r.Name, r.Role, dash(r.Router), dash(strings.Join(others, ", ")), dash(note)}
		_, _ = fmt.Fprintln(table, strings.Join(line, "\t"))
	}
	return table.Flush()
}

package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/internal/program"
)

func newDNS(a *app) *cobra.Command {
	command := group("dns", "Look at the names of the network")
	command.AddCommand(newDNSQuery(a), newDNSStatus(a))
	return command
}

func newDNSQuery(a *app) *cobra.Command {
	var form *output
	command := &cobra.Command{
		Use:   "query NAME [TYPE]",
		Short: "Ask the resolver of the network for a name",
		Long: "Ask this machine's resolver for a name: a peer, or a record of a zone. TYPE is A unless\n" +
			"it is given; an address with the type PTR is asked for in reverse. Exit code 1 when\n" +
			"there is no such record.",
		Args: program.Arguments,
		RunE: func(command *cobra.Command, args []string) error {
			request := local.QueryRequest{Name: args[0], Type: "A"}
			if len(args) > 1 {
				request.Type = args[1]
			}
			answer, err := a.client().Query(command.Context(), request)
			if err != nil {
				return exit(err)
			}
			err = form.print(command.OutOrStdout(), answer, func(w io.Writer) error {
				for _, record := range answer.Records {
					if _, err := fmt.Fprintln(w, record); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			return missing(answer)
		},
	}
	form = outputFlags(command)
	return command
}

// missing is the failure of an answer without a record.
func missing(answer local.QueryAnswer) error {
	switch {
	case len(answer.Records) > 0:
		return nil
	case answer.Code == "NXDOMAIN":
		return program.Exit(program.ExitFailed, "there is no name %s in the network", answer.Name)
	case answer.Code == "NOERROR":
		return program.Exit(program.ExitFailed, "%s has no record of the type %s", answer.Name, answer.Type)
	case answer.Code == "REFUSED":
		return program.Exit(program.ExitFailed, "%s is no name of the network; the system's own resolver answers for it", answer.Name)
	}
	return program.Exit(program.ExitFailed, "the resolver answers %s for %s", answer.Code, answer.Name)
}

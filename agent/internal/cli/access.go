package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/program"
)

// parseService reads PROTOCOL/PORT, or icmp.
func parseService(text string) (protocol string, port uint16, err error) {
	protocol, digits, found := strings.Cut(strings.ToLower(text), "/")
	switch {
	case protocol == "icmp" && !found:
		return protocol, 0, nil
	case (protocol == "tcp" || protocol == "udp") && found:
		n, err := strconv.ParseUint(digits, 10, 16)
		if err == nil && n > 0 {
			return protocol, uint16(n), nil
		}
	}
	return "", 0, program.Usage("%q is no protocol and port; use one such as tcp/5432, udp/53 or icmp", text)
}

func newAccess(a *app) *cobra.Command {
	var out *output
	var here bool
	var profile string
	command := &cobra.Command{
		Use:   "access FROM TO [PROTOCOL/PORT]",
		Short: "Say whether one machine may reach another, and which rule decides",
		Long: "Say whether one machine may reach another, and which rule decides. The control plane is\n" +
			"asked, with the credentials profile of a user; each end is the name or id of\n" +
			"a machine or of a resource. --local asks the rules in force on this machine instead, which\n" +
			"must be one end. Without a protocol it is about icmp. Exit code 6 when it is denied.",
		Example: "wattle access web-1 db-1 tcp/5432\nwattle access web-1 db-1 tcp/5432 --local",
		Args:    program.Arguments,
		RunE: func(command *cobra.Command, args []string) error {
			protocol, port, err := parseService("icmp")
			if len(args) == 3 {
				protocol, port, err = parseService(args[2])
			}
			if err != nil {
				return err
			}
			if here {
				request := local.FlowRequest{Source: args[0], Destination: args[1], Protocol: protocol, Port: port}
				return a.localAccess(command, out, request)
			}
			question := api.AccessQuestion{Source: args[0], Destination: args[1], Protocol: new(api.AccessQuestionProtocol(protocol))}
			if port != 0 {
				question.Port = new(int(port))
			}
			return explainAccess(command, out, profile, question)
		},
		ValidArgsFunction: a.completePeers,
	}
	out = outputFlags(command)
	command.Flags().BoolVar(&here, "local", false, "ask the rules in force on this machine")
	command.Flags().StringVar(&profile, "credentials", "", "file with address and token of the control plane (default: ~/.config/wattle/credentials)")
	return command
}

func (a *app) localAccess(command *cobra.Command, out *output, request local.FlowRequest) error {
	answer, err := a.client().Access(command.Context(), request)
	if err != nil {
		return exit(err)
	}
	err = out.print(command.OutOrStdout(), answer, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %s to %s: %s\n", allowedText(answer.Allowed), answer.Source, answer.Destination, answer.Detail)
		return err
	})
	return denied(err, answer.Allowed, "the rules in force on this machine deny it")
}

func allowedText(allowed bool) string {
	if allowed {
		return "allowed"
	}
	return "denied"
}

// denied is the failure of an answer that was printed and is no.
func denied(err error, allowed bool, why string) error {
	if err != nil || allowed {
		return err
	}
	return program.Exit(program.ExitDenied, "%s", why)
}

// explanation is the answer of the control plane with the name of its form.
type explanation struct {
	Schema string `json:"schema"`
	api.AccessExplanation
}

func explainAccess(command *cobra.Command, out *output, profile string, question api.AccessQuestion) error {
	client, err := sdk.FromProfile(profile)
	if errors.Is(err, fs.ErrNotExist) {
		return program.Exit(program.ExitNotEnrolled, "%v; or ask the rules of this machine with --local", err)
	}
	if err != nil {
		return err
	}
	answer, err := client.ExplainAccess(command.Context(), question)
	if err != nil {
		return controlPlaneError(err)
	}
	err = out.print(command.OutOrStdout(), explanation{"wattle.access-explanation/v1", *answer}, func(w io.Writer) error {
		return printExplanation(w, *answer)
	})
	return denied(err, answer.Allowed, "the policies deny it")
}

// controlPlaneError gives an error of the management API its exit code.
func controlPlaneError(err error) error {
	problem, answered := sdk.AsProblem(err)
	switch {
	case sdk.IsUnreachable(err):
		return program.Exit(program.ExitControlPlaneUnreachable, "the control plane cannot be reached: %v", err)
	case sdk.IsUnauthenticated(err):
		return program.Exit(program.ExitNotEnrolled, "the control plane does not take the token of the credentials profile: %v", err)
	case answered && problem.Status == 403:
		return program.Exit(program.ExitDenied, "%v", err)
	}
	return err
}

func printExplanation(w io.Writer, answer api.AccessExplanation) error {
	text := &strings.Builder{}
	fmt.Fprintf(text, "%s: %s\n", allowedText(answer.Allowed), answer.Detail)
	if rule := answer.Rule; rule != nil {
		fmt.Fprintf(text, "rule: %s of the policy %s\n", rule.RuleName, rule.PolicyName)
	}
	for _, router := range answer.Routers {
		note := ""
		if !router.Approved {
			note = ", not approved"
		}
		fmt.Fprintf(text, "router: %s, metric %d%s\n", router.Peer.Name, router.Metric, note)
	}
	for _, miss := range answer.NearMisses {
		fmt.Fprintf(text, "nearly: %s of the policy %s, but for its %s\n", miss.Rule.RuleName, miss.Rule.PolicyName, strings.ReplaceAll(string(miss.Missing), "_", " "))
	}
	for _, help := range answer.WhatWouldHelp {
		fmt.Fprintf(text, "would help: %s\n", help)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func newTrace(a *app) *cobra.Command {
	var out *output
	command := &cobra.Command{
		Use:   "trace in|out SOURCE DESTINATION PROTOCOL/PORT",
		Short: "Say what each step on this machine does with one packet",
		Long: "Say what each step on this machine does with one packet that comes in or goes out: who\n" +
			"the ends are, which rule decides, which machine leads there, which way it takes. Nothing\n" +
			"is sent. Exit code 6 when a step drops it.",
		Example: "wattle trace out web-1 db-1 tcp/5432\nwattle trace in 100.64.0.7 100.64.0.1 icmp",
		Args:    program.Arguments,
		ValidArgsFunction: func(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return []string{"in", "out"}, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completePeers(command, args, typed)
		},
		RunE: func(command *cobra.Command, args []string) error {
			if args[0] != "in" && args[0] != "out" {
				return program.Usage("the direction %q is unknown; use in or out", args[0])
			}
			protocol, port, err := parseService(args[3])
			if err != nil {
				return err
			}
			answer, err := a.client().Trace(command.Context(), local.FlowRequest{
				Direction: args[0], Source: args[1], Destination: args[2], Protocol: protocol, Port: port,
			})
			if err != nil {
				return exit(err)
			}
			err = out.print(command.OutOrStdout(), answer, func(w io.Writer) error { return printTrace(w, answer, colours(w)) })
			return denied(err, answer.Passes, "the packet does not pass")
		},
	}
	out = outputFlags(command)
	return command
}

func printTrace(w io.Writer, answer local.TraceAnswer, p palette) error {
	for _, step := range answer.Steps {
		mark := p.paint(green, "pass")
		if !step.Passes {
			mark = p.paint(red, "drop")
		}
		if _, err := fmt.Fprintf(w, "%s  %-11s  %s\n", mark, step.Step, step.Detail); err != nil {
			return err
		}
	}
	return nil
}

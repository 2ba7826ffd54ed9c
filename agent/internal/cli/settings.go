package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/internal/program"
)

func newSet(a *app) *cobra.Command {
	var out *output
	command := &cobra.Command{
		Use:   "set KEY=VALUE...",
		Short: "Change settings of the agent",
		Long: "Change settings of the agent. They are kept in the settings file and act at once;\n" +
			"some close the tunnel for a moment. KEY= goes back to what the control plane or the\n" +
			"default says. `wattle config show --effective` lists the keys.",
		Example: "wattle set hostname=web-1 log_level=debug\nwattle set relay_transports=udp,tls\nwattle set mtu=",
		Args:    program.Arguments,
		RunE: func(command *cobra.Command, args []string) error {
			changes, err := assignments(args)
			if err != nil {
				return err
			}
			answer, err := a.client().Set(command.Context(), local.SetRequest{Settings: changes})
			if err != nil {
				return exit(err)
			}
			return out.print(command.OutOrStdout(), answer, func(io.Writer) error {
				for _, hidden := range answer.Hidden {
					_, _ = fmt.Fprintf(command.ErrOrStderr(), "warning: %s is kept and does not act: the daemon was given another value as %s\n",
						hidden.Name, stronger(hidden))
				}
				return nil
			})
		},
		ValidArgsFunction: completeSettings("="),
	}
	out = outputFlags(command)
	return command
}

// stronger names what hides a setting of the file.
func stronger(hidden local.Hidden) string {
	if hidden.Origin == string(settings.FromEnvironment) {
		return program.EnvironmentName(strings.ReplaceAll(hidden.Name, "_", "-"))
	}
	return "--" + strings.ReplaceAll(hidden.Name, "_", "-")
}

// assignments reads KEY=VALUE.
func assignments(args []string) (map[string]string, error) {
	changes := map[string]string{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, program.Usage("%q is no KEY=VALUE; `wattle get %s` reads a setting", arg, arg)
		}
		setting, known := settings.Find(key)
		if !known {
			return nil, program.Usage("%v", &settings.UnknownError{Name: key})
		}
		if _, twice := changes[setting.Name]; twice {
			return nil, program.Usage("%s is given twice", setting.Name)
		}
		if err := setting.Check(value); value != "" && err != nil {
			return nil, program.Usage("%s: %v", setting.Name, err)
		}
		changes[setting.Name] = value
	}
	return changes, nil
}

func newGet(a *app) *cobra.Command {
	var out *output
	command := &cobra.Command{
		Use:   "get [KEY...]",
		Short: "Print settings in force",
		Long:  "Print settings in force: the value alone for one key, KEY=VALUE for several or all.",
		RunE: func(command *cobra.Command, args []string) error {
			all, err := a.client().Settings(command.Context())
			if err != nil {
				return exit(err)
			}
			if all.Settings, err = selected(all.Settings, args); err != nil {
				return err
			}
			return out.print(command.OutOrStdout(), all, func(w io.Writer) error {
				for _, each := range all.Settings {
					line := each.Name + "=" + each.Text
					if len(args) == 1 {
						line = each.Text
					}
					if _, err := fmt.Fprintln(w, line); err != nil {
						return err
					}
				}
				return nil
			})
		},
		ValidArgsFunction: completeSettings(""),
	}
	out = outputFlags(command)
	return command
}

func selected(all []local.Setting, names []string) ([]local.Setting, error) {
	if len(names) == 0 {
		return all, nil
	}
	var list []local.Setting
	for _, name := range names {
		at := slices.IndexFunc(all, func(s local.Setting) bool { return s.Name == strings.ReplaceAll(name, "-", "_") })
		if at < 0 {
			return nil, program.Usage("%v", &settings.UnknownError{Name: name})
		}
		list = append(list, all[at])
	}
	return list, nil
}

func completeSettings(suffix string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, each := range settings.All() {
			names = append(names, cobra.CompletionWithDesc(each.Name+suffix, each.Usage))
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		if suffix != "" {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		return names, directive
	}
}

func newConfig(a *app) *cobra.Command {
	command := group("config", "Look at the settings of the agent")
	command.AddCommand(newConfigShow(a), newConfigReload(a))
	return command
}

func newConfigShow(a *app) *cobra.Command {
	var out *output
	var effective, origin bool
	command := &cobra.Command{
		Use:   "show",
		Short: "Show settings and where they come from",
		Long: "Show the settings that somebody has set; with --effective all that are in force. The\n" +
			"stronger source wins: flag of the daemon, variable WATTLE_*, settings file, control\n" +
			"plane, default.",
		Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error {
			all, err := a.client().Settings(command.Context())
			if err != nil {
				return exit(err)
			}
			if !effective {
				all.Settings = slices.DeleteFunc(all.Settings, func(s local.Setting) bool { return s.Origin == string(settings.FromDefault) })
			}
			for _, warning := range all.Warnings {
				_, _ = fmt.Fprintln(command.ErrOrStderr(), "warning:", warning)
			}
			return out.print(command.OutOrStdout(), all, func(w io.Writer) error { return printSettings(w, all, origin) })
		},
	}
	out = outputFlags(command)
	command.Flags().BoolVar(&effective, "effective", false, "show the defaults too")
	command.Flags().BoolVar(&origin, "origin", false, "show where each value comes from: flag, env, file, server or default")
	return command
}

func printSettings(w io.Writer, all local.Settings, origin bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, each := range all.Settings {
		line := each.Name + "\t" + dash(each.Text)
		if origin {
			from := each.Origin
			if from == string(settings.FromFile) {
				from += " " + all.File
			}
			line += "\t" + from
		}
		_, _ = fmt.Fprintln(table, line) // Flush tells
	}
	return table.Flush()
}

func newConfigReload(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Make the daemon read its settings file again", Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error { return exit(a.client().Reload(command.Context())) },
	}
}

// group makes a command that only has others below it.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: program.UnknownCommand,
		RunE: func(command *cobra.Command, _ []string) error {
			_ = command.Help() // writes to stdout, whose failure cobra does not tell either
			return program.Usage("a command is missing after %s", cmp.Or(command.CommandPath(), use))
		},
	}
}

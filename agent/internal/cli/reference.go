package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/internal/program"
)

// exitCodes are what the exit codes mean, for every command.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{program.ExitDone, "done, or the check holds"},
	{program.ExitFailed, "failed"},
	{program.ExitUsage, "the command line is wrong: an unknown command, flag or value"},
	{program.ExitDaemonUnreachable, "the daemon does not answer"},
	{program.ExitNotEnrolled, "not enrolled, or a login is needed"},
	{program.ExitTimedOut, "the time is over, or it is not connected"},
	{program.ExitDenied, "denied by policy or permission"},
	{program.ExitControlPlaneUnreachable, "the control plane cannot be reached"},
	{program.ExitDifferent, "what was found differs from what was expected"},
}

// walk calls each for every command that people type, in the order of the names.
func walk(command *cobra.Command, each func(*cobra.Command)) {
	if command.Hidden {
		return
	}
	each(command)
	for _, child := range command.Commands() {
		walk(child, each)
	}
}

// prepared gives a tree of commands its help flags, which cobra adds late.
func prepared(root *cobra.Command) *cobra.Command {
	walk(root, func(c *cobra.Command) { c.InitDefaultHelpFlag(); c.DisableAutoGenTag = true })
	return root
}

// flagsOf calls each for the flags of a command that a reference shows.
func flagsOf(flags *pflag.FlagSet, each func(names, kind, usage, otherwise string)) {
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden || flag.Name == "help" {
			return
		}
		kind, usage := pflag.UnquoteUsage(flag)
		names := "--" + flag.Name
		if flag.Shorthand != "" {
			names = "-" + flag.Shorthand + ", " + names
		}
		otherwise := flag.DefValue
		if otherwise == "[]" || otherwise == "false" || otherwise == "0" || otherwise == "0s" {
			otherwise = ""
		}
		each(names, kind, usage, otherwise)
	})
}

// Reference writes the page of the command line, docs/cli.md.
func Reference(w io.Writer, root *cobra.Command) error {
	text := &strings.Builder{}
	text.WriteString("# The command line of the agent\n\n<!-- Written by `go test ./agent/internal/cli -run TestReference -update`. -->\n\n" +
		"`wattle` is the daemon and the commands that talk to it over its socket. Every flag can be given as a variable:\n" +
		"`--log-level` as `WATTLE_LOG_LEVEL`. `--json` prints one document whose `schema` names its form, `--format` a Go template\n" +
		"over that document. Colours are for terminals and obey `NO_COLOR`. Errors are one sentence on stderr.\n\n## Exit codes\n\n| Code | Meaning |\n|---|---|\n")
	for _, each := range exitCodes {
		fmt.Fprintf(text, "| %d | %s |\n", each.code, each.meaning)
	}
	text.WriteString("\n## Settings\n\nFlags of `wattle daemon`, variables, keys of `/etc/wattle/agent.json` and what `wattle set` takes. The stronger source wins:\n" +
		"flag, variable, file, control plane, default. The file is one JSON object; `wattle config show --effective --origin` shows\nwhat is in force and why.\n\n" +
		"| Key | Default | What it is | A change |\n|---|---|---|---|\n")
	for _, s := range (&settings.Book{}).Effective(nil) {
		usage := s.Setting.Usage
		if s.Setting.Choices != nil {
			usage += ": " + strings.Join(s.Setting.Choices, ", ")
		}
		fmt.Fprintf(text, "| `%s` | %s | %s | %s |\n", s.Setting.Name, dash(s.Value), usage, effects[s.Setting.Effect])
	}
	text.WriteString("\n## Commands\n")
	walk(prepared(root), func(c *cobra.Command) {
		if c.HasParent() {
			referenceOf(text, c)
		}
	})
	_, err := io.WriteString(w, text.String())
	return err
}

var effects = map[settings.Effect]string{
	settings.AtOnce: "acts at once",
	settings.Facts:  "is told to the control plane",
	settings.Apply:  "applies the network map again",
	settings.Reopen: "opens the tunnel anew",
}

func referenceOf(text *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(text, "\n### `%s`\n\n%s\n", strings.TrimSuffix(c.UseLine(), " [flags]"), describe(c))
	if c.Example != "" {
		fmt.Fprintf(text, "\n```\n%s\n```\n", c.Example)
	}
	rows := &strings.Builder{}
	flagsOf(c.LocalNonPersistentFlags(), func(names, kind, usage, otherwise string) {
		if kind != "" {
			names += " " + kind
		}
		fmt.Fprintf(rows, "| `%s` | %s | %s |\n", names, strings.ReplaceAll(usage, "|", "\\|"), dash(otherwise))
	})
	if rows.Len() > 0 {
		fmt.Fprintf(text, "\n| Flag | What it does | Default |\n|---|---|---|\n%s", rows)
	}
}

// describe is the text of a command as Markdown: lines that are indented are
// columns.
func describe(c *cobra.Command) string {
	long := cmp.Or(c.Long, c.Short+".")
	var out []string
	block := false
	for line := range strings.SplitSeq(long, "\n") {
		if indented := strings.HasPrefix(line, "  "); indented != block && line != "" {
			out = append(out, "```")
			block = indented
			if !indented { // the blank line belongs behind the block
				out[len(out)-2], out[len(out)-1] = out[len(out)-1], out[len(out)-2]
			}
		}
		out = append(out, line)
	}
	if block {
		out = append(out, "```")
	}
	return strings.Join(out, "\n")
}

func newMan() *cobra.Command {
	return &cobra.Command{
		Use: "man", Short: "Write the manual page: wattle man | man -l -", Args: program.Arguments,
		RunE: func(command *cobra.Command, _ []string) error { return manual(command.OutOrStdout(), command.Root()) },
	}
}

// roff escapes a text for man(7).
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// manual writes the page wattle(1).
func manual(w io.Writer, root *cobra.Command) error {
	text := &strings.Builder{}
	fmt.Fprintf(text, ".TH WATTLE 1 \"\" \"wattle %s\"\n.SH NAME\nwattle \\- %s\n.SH SYNOPSIS\n.B wattle\n.I COMMAND\n[flags]\n.SH DESCRIPTION\n%s\n.SH COMMANDS\n",
		roff(program.Version()), roff(root.Short), roff(root.Long))
	walk(prepared(root), func(c *cobra.Command) {
		if !c.HasParent() {
			return
		}
		fmt.Fprintf(text, ".SS %s\n.nf\n%s\n.fi\n", roff(strings.TrimSuffix(c.UseLine(), " [flags]")), roff(cmp.Or(c.Long, c.Short)))
		flagsOf(c.LocalNonPersistentFlags(), func(names, kind, usage, otherwise string) {
			if otherwise != "" {
				usage += " (default " + otherwise + ")"
			}
			fmt.Fprintf(text, ".TP\n.B %s\n%s\n", roff(strings.TrimSpace(names+" "+kind)), roff(usage))
		})
	})
	text.WriteString(".SH EXIT STATUS\n")
	for _, each := range exitCodes {
		fmt.Fprintf(text, ".TP\n.B %d\n%s\n", each.code, roff(each.meaning))
	}
	text.WriteString(".SH FILES\n.TP\n.I /etc/wattle/agent.json\nsettings\n.TP\n.I /var/lib/wattle\nkeys and the last network map; not to be edited\n.TP\n.I /run/wattle/agent.sock\nsocket of the daemon\n")
	_, err := io.WriteString(w, text.String())
	return err
}

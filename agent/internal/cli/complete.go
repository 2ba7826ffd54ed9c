package cli

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/internal/program"
)

// completionPatience is how long a shell waits for names.
const completionPatience = 500 * time.Millisecond

// completePeers offers the names of the peers, if the daemon answers.
func (a *app) completePeers(command *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(command.Context(), completionPatience)
	defer cancel()
	status, err := a.client().Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := []string{}
	for _, p := range status.Peers {
		names = append(names, cobra.CompletionWithDesc(p.Name, first(p.Addresses)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// fileFlags lead to files and folders, which shells complete by themselves; nothing else does.
var fileFlags = []string{"credentials", "output", "root", "settings", "setup-key-file", "socket", "state-dir", "textfile"}

// markFiles marks the flags of a command that lead to files.
func markFiles(command *cobra.Command) {
	files := cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	for _, name := range fileFlags {
		_ = command.RegisterFlagCompletionFunc(name, files) // not every command has it
	}
}

// completeOne offers the names of the peers for the only argument.
func (a *app) completeOne(command *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completePeers(command, args, typed)
}

// completeWords offers words for a flag.
func completeWords(command *cobra.Command, flag string, words []string) {
	_ = command.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // each is there, and once
}

// bashWords takes the place of a function of cobra's that calls one of the package
// bash-completion, which small machines do not have. Words end at blanks, not at = or :.
const bashWords = `
__wattle_init_completion()
{
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    read -ra words <<<"${COMP_LINE:0:COMP_POINT}"
    [[ "${COMP_LINE:0:COMP_POINT}" == *[[:blank:]] ]] && words+=("")
    cword=$((${#words[@]} - 1))
    cur=${words[cword]} prev=${words[cword - 1]}
}
`

// shells are those that `wattle completion` writes for.
var shells = []string{"bash", "zsh", "fish", "powershell"}

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Write what a shell needs to complete commands, flags, peers and settings",
		Example: "wattle completion bash > /etc/bash_completion.d/wattle\n" +
			"wattle completion zsh > \"${fpath[1]}/_wattle\"\n" +
			"wattle completion fish > ~/.config/fish/completions/wattle.fish",
		Args: program.Arguments, ValidArgs: shells,
		RunE: func(command *cobra.Command, args []string) error {
			root, w := command.Root(), command.OutOrStdout()
			switch args[0] {
			case "bash":
				if err := root.GenBashCompletionV2(w, true); err != nil {
					return err
				}
				_, err := io.WriteString(w, bashWords)
				return err
			case "zsh":
				return root.GenZshCompletion(w)
			case "fish":
				return root.GenFishCompletion(w, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(w)
			}
			return program.Usage("the shell %q is unknown; use bash, zsh, fish or powershell", args[0])
		},
	}
}

// newHelp is cobra's help with an error for what does not exist.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Tell about a command",
		RunE: func(command *cobra.Command, args []string) error {
			found, rest, err := command.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return program.Usage("there is no command %q; see wattle --help", args[len(args)-1])
			}
			return found.Help()
		},
	}
}

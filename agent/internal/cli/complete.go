package cli

import (
	"context"
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
				return root.GenBashCompletionV2(w, true)
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

package program

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Arguments wants the arguments that the command's own line names: NAME is one, [NAME] may be missing, and of
// NAME... there may be more.
func Arguments(command *cobra.Command, args []string) error {
	line := strings.TrimSuffix(command.UseLine(), " [flags]")
	named := strings.Fields(command.Use)[1:]
	for i, name := range named {
		switch {
		case strings.HasSuffix(strings.TrimSuffix(name, "]"), "...") && i < len(args):
			return nil
		case i >= len(args) && !strings.HasPrefix(name, "["):
			return Usage("%s is missing; use %s", strings.TrimSuffix(name, "..."), line)
		}
	}
	switch {
	case len(args) <= len(named):
		return nil
	case len(named) == 0:
		return Usage("%q is one argument too many; %s takes none", args[0], command.CommandPath())
	}
	return Usage("%q is one argument too many; use %s", args[len(named)], line)
}

// UnknownCommand is for commands that only have others below them: it refuses what is none of these, and says what
// may have been meant.
func UnknownCommand(command *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := nearest(args[0], command); near != "" {
		return Usage("there is no command %q; did you mean %s?", args[0], near)
	}
	return Usage("there is no command %q; see %s --help", args[0], command.CommandPath())
}

// typingErrors are the letters by which a name may differ from the one that was meant.
const typingErrors = 2

// nearest names the commands below above that were probably meant by a name, empty for none.
func nearest(name string, above *cobra.Command) string {
	above.SuggestionsMinimumDistance = typingErrors
	return strings.Join(above.SuggestionsFor(name), " or ")
}

// Exclusive marks flags of which a command takes one at most.
func Exclusive(command *cobra.Command, names ...string) {
	command.MarkFlagsMutuallyExclusive(names...) // completion leaves the others out
	for _, name := range names {
		flag := command.Flags().Lookup(name)
		if flag.Annotations == nil {
			flag.Annotations = map[string][]string{}
		}
		flag.Annotations[exclusiveMark] = names
	}
}

const exclusiveMark = "wattle_exclusive"

// exclude refuses flags that Exclusive keeps apart.
func exclude(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(flag *pflag.Flag) {
		at := slices.Index(flag.Annotations[exclusiveMark], flag.Name)
		for _, other := range flag.Annotations[exclusiveMark][at+1:] {
			if flags.Changed(other) {
				err = fmt.Errorf("--%s and --%s are both given; give one", flag.Name, other)
			}
		}
	})
	return err
}

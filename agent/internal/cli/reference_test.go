package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/internal/program"
)

// page is the reference of the command line.
const page = "../../../docs/cli.md"

func TestReferenceIsWhatTheCommandsSay(t *testing.T) {
	var text strings.Builder
	if err := Reference(&text, New()); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(page, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(committed), text.String()); diff != "" {
		t.Errorf("docs/cli.md differs from the commands; go test ./agent/internal/cli -run TestReference -update (-committed +now):\n%s", diff)
	}
}

// TestEveryCommandTells: what it is for, how its flags are used, and JSON where
// there is something to read.
func TestEveryCommandTells(t *testing.T) {
	silent := map[string]bool{
		"down": true, "logout": true, "wait": true, "daemon": true, "cleanup": true, "completion": true, "man": true, "help": true, "reload": true, "level": true, "metrics": true,
		"install": true, "remove": true,
	}
	walk(New(), func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: %q is no short text", c.CommandPath(), c.Short)
		}
		if c.RunE == nil {
			t.Errorf("%s cannot be run", c.CommandPath())
		}
		if !c.HasSubCommands() && !silent[c.Name()] && c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
		flagsOf(c.LocalNonPersistentFlags(), func(names, _, usage, _ string) {
			if usage == "" || strings.HasSuffix(usage, ".") {
				t.Errorf("%s %s: %q is no text", c.CommandPath(), names, usage)
			}
		})
	})
}

func TestManualAndCompletion(t *testing.T) {
	for args, want := range map[string]string{
		"man":                               ".SS wattle status",
		"completion bash":                   "__start_wattle",
		"completion zsh":                    "#compdef wattle",
		"completion fish":                   "complete -c wattle",
		"help status":                       "--check",
		"help debug log":                    "level",
		"help":                              "wattle daemon",
		"__complete set mt":                 "mtu=",
		"__complete completion ":            "fish",
		"__complete trace ":                 "out",
		"__complete status --check ":        "healthy",
		"__complete debug bundle --redact ": "strict",
		"__complete status ":                ":4\n", // no files
		"__complete debug bundle --output ": ":0\n", // files
		"__complete status --socket ":       ":0\n",
	} {
		code, stdout, stderr := run(t, strings.Split(args, " ")...)
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit %d, %q in\n%s%s", args, code, want, stdout, stderr)
		}
	}
	for _, args := range [][]string{{"help", "nonsense"}, {"help", "status", "nonsense"}, {"completion"}, {"completion", "csh"}} {
		if code, _, _ := run(t, args...); code != program.ExitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	t.Setenv("TERM", "xterm")
	if colours(&strings.Builder{}) {
		t.Error("colours into a pipe")
	}
	t.Setenv("NO_COLOR", "1")
	if colours(os.Stdout) {
		t.Error("colours although NO_COLOR is set")
	}
	if palette(true).paint(red, "x") != "\x1b[31mx\x1b[0m" || palette(false).paint(red, "x") != "x" {
		t.Error("a word is painted wrongly")
	}
}

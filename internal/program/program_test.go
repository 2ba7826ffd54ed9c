package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func newTestCommand(run func(text string) error) *cobra.Command {
	root := &cobra.Command{Use: "wattle-test", Args: UnknownCommand, RunE: func(*cobra.Command, []string) error { return nil }}
	var text string
	child := &cobra.Command{Use: "say", Args: Arguments, RunE: func(*cobra.Command, []string) error { return run(text) }}
	child.Flags().StringVar(&text, "the-text", "nothing", "what to say")
	var count int
	child.Flags().IntVarP(&count, "count", "n", 1, "how often")
	var loud, quiet bool
	child.Flags().BoolVar(&loud, "louder", false, "with a loud voice")
	child.Flags().BoolVar(&quiet, "quiet", false, "with a low voice")
	Exclusive(child, "louder", "quiet")
	var pause, gap time.Duration
	child.Flags().DurationVar(&pause, "pause", 0, "time before")
	DurationFlag(child.Flags(), &gap, "gap", time.Second, time.Millisecond, "time between two")
	root.AddCommand(child, &cobra.Command{Use: "tell WHO [WHAT]", Args: Arguments, RunE: child.RunE}, &cobra.Command{Use: "list NAME...", Args: Arguments, RunE: child.RunE},
		&cobra.Command{Use: "maybe [NAME...]", Args: Arguments, RunE: child.RunE})
	return root
}

func TestExitCodes(t *testing.T) {
	tests := []struct {
		name string
		args []string
		env  map[string]string
		err  error
		code int
		text string // in stderr
	}{
		{name: "done", args: []string{"say"}},
		{name: "help", args: []string{"--help"}},
		{name: "failure", args: []string{"say"}, err: errors.New("disk is full"), code: ExitFailed, text: "wattle-test: disk is full"},
		{name: "own code", args: []string{"say"}, err: fmt.Errorf("ask: %w", Exit(ExitDenied, "no")), code: ExitDenied, text: "ask: no"},
		{name: "deadline", args: []string{"say"}, err: context.DeadlineExceeded, code: ExitTimedOut},
		{name: "unknown command", args: []string{"shout"}, code: ExitUsage, text: `there is no command "shout"; see wattle-test --help`},
		{name: "command with a typing error", args: []string{"sya"}, code: ExitUsage, text: `there is no command "sya"; did you mean say?`},
		{name: "unknown flag", args: []string{"say", "--nonsense"}, code: ExitUsage, text: "there is no flag --nonsense; see wattle-test say --help"},
		{name: "flag with a typing error", args: []string{"say", "--luoder"}, code: ExitUsage, text: "there is no flag --luoder; did you mean --louder?\n"},
		{name: "unknown letter", args: []string{"say", "-x"}, code: ExitUsage, text: "'x' in -x"},
		{name: "no number", args: []string{"say", "-n", "x"}, code: ExitUsage, text: `--count "x" is no number; see`},
		{name: "too great a number", args: []string{"say", "-n", "99999999999999999999"}, code: ExitUsage, text: "is out of range"},
		{name: "neither true nor false", args: []string{"say", "--quiet=perhaps"}, code: ExitUsage, text: `--quiet "perhaps" is neither true nor false`},
		{name: "no duration", args: []string{"say", "--pause", "5"}, code: ExitUsage, text: `--pause "5" is no duration; use one such as 30s`},
		{name: "no duration of its own kind", args: []string{"say", "--gap", "soon"}, code: ExitUsage, text: `--gap "soon" is no duration; use one such as 30s`},
		{name: "too short", args: []string{"say", "--gap", "-2s"}, code: ExitUsage, text: "--gap: -2s is too short; use 1ms or more"},
		{name: "long enough", args: []string{"say", "--gap", "1ms"}},
		{name: "either", args: []string{"say", "--louder"}},
		{name: "both", args: []string{"say", "--quiet", "--louder"}, code: ExitUsage, text: "--louder and --quiet are both given; give one"},
		{name: "an argument to none", args: []string{"say", "more"}, code: ExitUsage, text: `"more" is one argument too many; wattle-test say takes none`},
		{name: "argument missing", args: []string{"tell"}, code: ExitUsage, text: "WHO is missing; use wattle-test tell WHO [WHAT]"},
		{name: "argument that may be missing", args: []string{"tell", "me"}},
		{name: "all arguments", args: []string{"tell", "me", "this"}},
		{name: "too many arguments", args: []string{"tell", "me", "this", "now"}, code: ExitUsage, text: `"now" is one argument too many; use wattle-test tell WHO [WHAT]`},
		{name: "one of several", args: []string{"list", "a"}},
		{name: "several", args: []string{"list", "a", "b", "c"}},
		{name: "none of several", args: []string{"list"}, code: ExitUsage, text: "NAME is missing"},
		{name: "none where several may be", args: []string{"maybe"}},
		{name: "several where none may be", args: []string{"maybe", "a", "b"}},
		{name: "bad environment", args: []string{"say"}, env: map[string]string{"WATTLE_COUNT": "many"}, code: ExitUsage, text: "WATTLE_COUNT"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			var stdout, stderr bytes.Buffer
			command := newTestCommand(func(string) error { return test.err })
			if code := Run(t.Context(), command, test.args, &stdout, &stderr); code != test.code {
				t.Errorf("code %d, want %d; stderr: %s", code, test.code, stderr.String())
			}
			if !strings.Contains(stderr.String(), test.text) {
				t.Errorf("stderr %q lacks %q", stderr.String(), test.text)
			}
		})
	}
}

func TestFlagBeforeEnvironmentBeforeDefault(t *testing.T) {
	said := func(args ...string) (text string) {
		t.Helper()
		command := newTestCommand(func(given string) error { text = given; return nil })
		var out bytes.Buffer
		if code := Run(t.Context(), command, append([]string{"say"}, args...), &out, &out); code != ExitDone {
			t.Fatalf("code %d: %s", code, out.String())
		}
		return text
	}
	if got := said(); got != "nothing" {
		t.Errorf("default: %q", got)
	}
	t.Setenv("WATTLE_THE_TEXT", "from environment")
	if got := said(); got != "from environment" {
		t.Errorf("environment: %q", got)
	}
	if got := said("--the-text", "from flag"); got != "from flag" {
		t.Errorf("flag: %q", got)
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log, err := (&Log{Level: "warn", Format: "json"}).Logger(&out)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("quiet")
	log.Warn("heard", "count", 3)
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, `"msg":"heard","count":3`) {
		t.Errorf("log: %s", got)
	}
	out.Reset()
	log.Warn("waits", "wait", 1500*time.Millisecond, slog.Group("relay", "duration", time.Minute))
	if got := out.String(); !strings.Contains(got, `"wait":"1.5s","relay":{"duration":"1m0s"}`) {
		t.Errorf("durations without a unit: %s", got)
	}
	for _, bad := range []Log{{Level: "loud"}, {Format: "xml"}} {
		if _, err := bad.Logger(&out); Code(err) != ExitUsage {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

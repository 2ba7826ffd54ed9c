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
	root := &cobra.Command{Use: "wattle-test"}
	var text string
	child := &cobra.Command{Use: "say", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return run(text) }}
	child.Flags().StringVar(&text, "the-text", "nothing", "what to say")
	var count int
	child.Flags().IntVar(&count, "count", 1, "how often")
	root.AddCommand(child)
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
		{name: "unknown command", args: []string{"shout"}, code: ExitUsage, text: "unknown command"},
		{name: "unknown flag", args: []string{"say", "--loud"}, code: ExitUsage, text: "see wattle-test say --help"},
		{name: "too many arguments", args: []string{"say", "more"}, code: ExitUsage},
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

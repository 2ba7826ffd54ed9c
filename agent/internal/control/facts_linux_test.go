package control

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestVersionID(t *testing.T) {
	for text, want := range map[string]string{
		"NAME=x\nVERSION_ID=\"12\"\nVERSION=\"12 (x)\"\n": "12",
		"VERSION_ID=24.04":                   "24.04",
		"VERSION_ID='3.20.1'\n":              "3.20.1",
		"# VERSION_ID=1\nBUILD_ID=rolling\n": "",
		"":                                   "",
	} {
		if got := versionID(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// A program counts from its start to its end, by its file and by a link to it,
// also when the file is deleted meanwhile. Of others nothing is told.
func TestProgramsOfThisMachine(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	text, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	// The name tells a program of many names, such as busybox, what to be.
	program, alias := filepath.Join(dir, "cat"), filepath.Join(dir, "alias")
	if err := os.WriteFile(program, text, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, alias); err != nil {
		t.Fatal(err)
	}
	tell := func() string {
		t.Helper()
		facts, err := Machine{AgentVersion: "test"}.Facts([]string{program, alias})
		if err != nil && !errors.Is(err, errHidden) {
			t.Fatal(err)
		}
		return strings.Join(*facts.RunningProcesses, " ")
	}
	if got := tell(); got != "" {
		t.Errorf("%q runs before the start", got)
	}
	command := exec.CommandContext(t.Context(), program)
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	// An answer shows that it runs.
	if _, err := io.WriteString(input, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(output, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if got := tell(); got != program+" "+alias {
		t.Errorf("%q run, want the program by both names", got)
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if got := tell(); got != program {
		t.Errorf("%q runs after its file was deleted", got)
	}
	if err := input.Close(); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := tell(); got != "" {
		t.Errorf("%q runs after the end", got)
	}
}

// Package namespacetest runs a test in namespaces of its own, where it may do without root what only root may do to the
// machine.
package namespacetest

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
)

// The namespaces that a test may ask for, beside that of users.
const (
	Network = syscall.CLONE_NEWNET // without interfaces but a loopback that is down
	Mounts  = syscall.CLONE_NEWNS
)

// insideVariable names the test that the process was started for.
const insideVariable = "WATTLE_TEST_INSIDE_NAMESPACE"

// Run starts the program of the test again for this test alone, in new namespaces whose root is the present user, and
// calls inside there. What is skipped inside is skipped outside; the test is skipped too where no such namespaces are
// to be had. The test must not be a subtest.
func Run(t *testing.T, namespaces uintptr, inside func(t *testing.T)) {
	t.Helper()
	if os.Getenv(insideVariable) == t.Name() {
		inside(t)
		return
	}
	again := exec.CommandContext(t.Context(), os.Args[0], //nolint:gosec // the test starts its own program
		"-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.timeout="+flag.Lookup("test.timeout").Value.String())
	again.Env = append(os.Environ(), insideVariable+"="+t.Name())
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | namespaces,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	output, err := again.CombinedOutput()
	_, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case exited:
		t.Fatalf("inside: %v\n%s", err, output)
	case err != nil:
		t.Skipf("SKIPPED: no namespaces of one's own here: %v", err)
	case bytes.Contains(output, []byte("--- SKIP: "+t.Name())):
		t.Skipf("SKIPPED: inside:\n%s", output)
	case !bytes.Contains(output, []byte("--- PASS: "+t.Name())):
		t.Fatalf("the test did not run inside:\n%s", output)
	}
	t.Logf("inside:\n%s", output)
}

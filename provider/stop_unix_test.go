//go:build unix

package main

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

// TestStopOfTheWholeGroup: SIGTERM comes to Terraform and the provider between
// the making of an object and its answer. The object is in the state all the same,
// and the next apply makes the rest.
func TestStopOfTheWholeGroup(t *testing.T) {
	plane := controlplanetest.New(t)
	target, err := url.Parse(plane.URL)
	if err != nil {
		t.Fatal(err)
	}
	gate := newGate(t, plane)
	c := newCommand(t, plane, gate.URL)
	config := secretsConfig[:strings.Index(secretsConfig, "resource")] + `
resource "wattle_group" "first" {
  name = "first"
}
resource "wattle_group" "second" {
  name = "second ${wattle_group.first.id}"
}
`
	if err := os.WriteFile(filepath.Join(c.folder, "main.tf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), c.path, "-chdir="+c.folder, "apply", "-auto-approve", "-input=false")
	cmd.Env, cmd.SysProcAttr = c.environ, &syscall.SysProcAttr{Setpgid: true}
	started := make(chan int, 1)
	stop := sync.OnceValue(func() error { return syscall.Kill(-<-started, syscall.SIGTERM) })
	forward := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(*http.Response) error { return stop() },
	}
	gate.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || r.URL.RawQuery != "" { // what a plan means is asked too
			return false
		}
		forward.ServeHTTP(w, r)
		return true
	})
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started <- cmd.Process.Pid
	if err := cmd.Wait(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("%v, want status 1\n%s", err, out.String())
	}
	if kept := strings.TrimSpace(c.run(t, 0, "state", "list")); kept != "wattle_group.first" {
		t.Errorf("the state has %q, want the first group\n%s", kept, out.String())
	}
	if said := c.run(t, 0, "apply", "-auto-approve", "-input=false"); !strings.Contains(said, "1 added, 0 changed, 0 destroyed") {
		t.Errorf("the next apply says\n%s", said)
	}
}

// Package embed_test runs the examples of agent/embed.
package embed_test

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

func TestHello(t *testing.T) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(addresses, func(a net.Addr) bool { return a.(*net.IPNet).IP.IsGlobalUnicast() }) {
		t.Skip("SKIPPED: this machine has no address but the loopback's, and the control plane of the test no relay")
	}
	ctx := t.Context()
	plane := controlplanetest.New(t)
	folder := t.TempDir()
	hello, key := filepath.Join(folder, "hello"), filepath.Join(folder, "key")
	if err := os.WriteFile(key, []byte(plane.SetupKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", hello, "./hello").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	greeter := exec.CommandContext(ctx, hello, "-management-url", plane.URL, "-setup-key-file", key, "-name", "greeter")
	greeter.Stderr = os.Stderr
	greeter.Cancel = func() error { return greeter.Process.Signal(os.Interrupt) }
	said, err := greeter.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := greeter.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = greeter.Process.Signal(os.Interrupt)
		if err := greeter.Wait(); err != nil {
			t.Errorf("the greeter ends with %v", err)
		}
	}()
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || !strings.HasPrefix(line, "serving as greeter.") {
		t.Fatalf("%q, %v", line, err)
	}
	out, err := exec.CommandContext(ctx, hello, "-management-url", plane.URL, "-setup-key-file", key, "-name", "guest", "-ask", "greeter").Output()
	if err != nil || !strings.HasPrefix(string(out), "hello from greeter.") {
		t.Errorf("%q, %v", out, err)
	}
}

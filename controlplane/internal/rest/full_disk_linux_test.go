package rest_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
)

const smallDisk = "WATTLE_TEST_SMALL_DISK"

// TestFullDiskAsksToComeBack fills a disk of a few megabytes, mounted in a
// namespace of the test's own.
func TestFullDiskAsksToComeBack(t *testing.T) {
	if folder := os.Getenv(smallDisk); folder != "" {
		if err := syscall.Mount("none", folder, "tmpfs", 0, "size=3m"); err != nil {
			t.Skip("SKIPPED: no tmpfs in a namespace of our own:", err)
		}
		t.Setenv("TMPDIR", folder)
		fillDisk(t, folder)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestFullDiskAsksToComeBack$", "-test.v")
	cmd.Env = append(os.Environ(), smallDisk+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	switch {
	case strings.Contains(string(out), "SKIPPED:"):
		t.Skip(string(out))
	case err != nil && cmd.ProcessState == nil:
		t.Skip("SKIPPED: no user namespaces:", err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
}

// fillDisk creates groups until the disk is full.
func fillDisk(t *testing.T, folder string) {
	plane := controlplanetest.New(t)
	ballast := filepath.Join(folder, "ballast")
	grow(t, ballast)
	body := func(i int) string { return fmt.Sprintf(`{"name":"%04d %s"}`, i, strings.Repeat("x", 240)) }
	made, refused := 0, answer{status: http.StatusOK}
	for refused.status == http.StatusOK && made < 20_000 {
		if refused = ask(t, plane, "POST", "/api/groups", body(made)); refused.status == http.StatusOK {
			made++
		}
	}
	p := refused.problem(t)
	if refused.status != http.StatusServiceUnavailable || refused.header.Get("Retry-After") == "" || p.Type != api.ProblemUnavailable {
		t.Fatalf("after %d groups: %d, Retry-After %q: %s", made, refused.status, refused.header.Get("Retry-After"), refused.body)
	}
	if got := ask(t, plane, "GET", "/api/groups?limit=1", ""); got.status != http.StatusOK {
		t.Errorf("nothing can be read: %d %s", got.status, got.body)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	// With room again the same request succeeds: nothing of it was left behind.
	if got := ask(t, plane, "POST", "/api/groups", body(made)); got.status != http.StatusOK {
		t.Errorf("with room again: %d %s", got.status, got.body)
	}
}

// grow writes a file that leaves little room on its disk.
func grow(t *testing.T, path string) {
	t.Helper()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &disk); err != nil {
		t.Fatal(err)
	}
	const room = 256 << 10
	if err := os.WriteFile(path, make([]byte, max(0, int64(disk.Bavail)*disk.Bsize-room)), 0o600); err != nil {
		t.Fatal(err)
	}
}

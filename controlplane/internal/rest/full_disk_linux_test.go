package rest_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/namespacetest"
)

// TestFullDiskAsksToComeBack fills a disk of a few megabytes, mounted in a
// namespace of the test's own.
func TestFullDiskAsksToComeBack(t *testing.T) {
	namespacetest.Run(t, namespacetest.Mounts, func(t *testing.T) {
		folder := t.TempDir()
		if err := syscall.Mount("none", folder, "tmpfs", 0, "size=3m"); err != nil {
			t.Skip("SKIPPED: no tmpfs in a namespace of our own:", err)
		}
		t.Setenv("TMPDIR", folder)
		t.Run("fill", func(t *testing.T) { fillDisk(t, folder) }) // a test of its own has a folder of its own on that disk
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
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
	t.Logf("the disk was full after %d groups: %s", made, p.Detail)
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

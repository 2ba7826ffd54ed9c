package local

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"syscall"
	"testing"
)

// groupOf returns the group of a file.
func groupOf(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner is told")
	}
	return fmt.Sprint(stat.Gid)
}

func TestSocketIsLentToAGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root gives a socket to another group")
	}
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lendTo("no-such-group", path), lendTo("daemon", path)); err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroup("daemon")
	if err != nil {
		t.Skipf("SKIPPED: this system has no group daemon: %v", err)
	}
	if got := groupOf(t, path); got != group.Gid {
		t.Errorf("the group is %s, want %s", got, group.Gid)
	}
}

package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wattlenet/wattle/internal/folder"
	"github.com/wattlenet/wattle/internal/namespacetest"
)

// TestFullDisk runs where it may mount a disk of 64 KiB.
func TestFullDisk(t *testing.T) {
	namespacetest.Run(t, namespacetest.Mounts, testFullDisk)
}

func testFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("SKIPPED: no tmpfs here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) }) // after the store is closed
	s := open(t, dir)
	former, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Save(former), s.SaveMap([]byte("former"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 64<<10), 0o600); !folder.IsFull(err) {
		t.Fatalf("the disk is not full: %v", err)
	}
	next := *former
	next.PeerID = "p1"
	for what, err := range map[string]error{"identity": s.Save(&next), "map": s.SaveMap(make([]byte, 8<<10))} {
		if err == nil || !strings.Contains(err.Error(), "the disk is full; free some space, nothing was changed") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got, err := s.Load(); err != nil || got.PeerID != "" {
		t.Errorf("identity after the failure: %+v, %v", got, err)
	}
	if raw, err := s.LoadMap(); err != nil || string(raw) != "former" {
		t.Errorf("map after the failure: %q, %v", raw, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			t.Errorf("half-written file left: %s", entry.Name())
		}
	}
}

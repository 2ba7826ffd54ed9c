package identity

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const inside = "WATTLE_IDENTITY_TEST_INSIDE"

// TestFullDisk starts itself again where it may mount a disk of 64 KiB.
func TestFullDisk(t *testing.T) {
	if os.Getenv(inside) != "" {
		testFullDisk(t)
		return
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	again.Env = append(os.Environ(), inside+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	output, err := again.CombinedOutput()
	var failed *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &failed):
		t.Fatalf("inside: %v\n%s", err, output)
	default:
		t.Skipf("SKIPPED: no user and mount namespaces here: %v", err)
	}
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
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 64<<10), 0o600); !isDiskFull(err) {
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

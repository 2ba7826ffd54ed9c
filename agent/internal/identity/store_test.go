package identity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestIdentityComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	if got, err := s.Load(); err != nil || got != nil {
		t.Fatalf("fresh folder: identity %v, error %v; want neither", got, err)
	}
	want, err := New()
	if err != nil {
		t.Fatal(err)
	}
	want.ManagementURL, want.CAPin = "https://mesh.example:8443", "sha256:00"
	want.PeerID, want.AccountID, want.Issuer, want.Name = "p1", "a1", "https://mesh.example", "web-1"
	want.Epoch, want.Up, want.ListenPort = "0198c3a1f2b0-7f3d", true, 51820
	if err := s.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if !got.MachineKey.private.Equal(want.MachineKey.private) || !got.WireGuardKey.Equal(want.WireGuardKey) {
		t.Error("the keys changed")
	}
	wantRaw, _ := want.encode()
	gotRaw, _ := got.encode()
	if diff := cmp.Diff(string(wantRaw), string(gotRaw)); diff != "" {
		t.Error(diff)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	i, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Save(i), s.SaveMap([]byte("{}")), s.SavePaths([]byte("{}"))); err != nil {
		t.Fatal(err)
	}
	want := map[string]os.FileMode{".": 0o700 | os.ModeDir, identityFile: 0o600, mapFile: 0o600, pathsFile: 0o600, lockFile: 0o600}
	for name, mode := range want {
		entry, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if entry.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, entry.Mode(), mode)
		}
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	if _, err := Open(dir); !errors.Is(err, ErrInUse) {
		t.Fatalf("second daemon: %v, want ErrInUse", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

func TestDamagedIdentityIsNamed(t *testing.T) {
	for name, content := range map[string]string{
		"half a file": `{"version":1,"machine_key":"`,
		"other":       `{"version":9}`,
		"short key":   `{"version":1,"machine_key":"AAAA","wireguard_key":"AAAA"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			if err := os.WriteFile(filepath.Join(s.Dir(), identityFile), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.Load()
			if err == nil || !strings.Contains(err.Error(), "enrol again") {
				t.Fatalf("error %v, want the next step in it", err)
			}
		})
	}
}

func TestFailedWriteKeepsTheFormerFile(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.SaveMap([]byte("former")); err != nil {
		t.Fatal(err)
	}
	// A folder in the place of the file makes the rename fail after the write.
	if err := os.Mkdir(filepath.Join(s.Dir(), identityFile), 0o700); err != nil {
		t.Fatal(err)
	}
	i, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(i); err == nil {
		t.Fatal("a write onto a folder succeeded")
	}
	entries, err := os.ReadDir(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			t.Errorf("half-written file left: %s", entry.Name())
		}
	}
	if raw, err := s.LoadMap(); err != nil || string(raw) != "former" {
		t.Errorf("map %q, %v", raw, err)
	}
}

func TestForgetLeavesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	i, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Save(i), s.SaveMap([]byte("m")), s.Forget(), s.Forget()); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(); got != nil || err != nil {
		t.Errorf("identity %v, error %v", got, err)
	}
	if raw, err := s.LoadMap(); raw != nil || err != nil {
		t.Errorf("map %q, error %v", raw, err)
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	i, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(verb, i.MachineKey); got != "(machine key)" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestHalfWrittenFilesAreSwept(t *testing.T) {
	dir := t.TempDir()
	half := filepath.Join(dir, "."+identityFile+".123")
	foreign := filepath.Join(dir, ".keep")
	if err := errors.Join(os.WriteFile(half, []byte("{"), 0o600), os.WriteFile(foreign, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a half-written file stays: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a foreign file went: %v", err)
	}
}

package journal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	f := File[[]string]{Path: filepath.Join(t.TempDir(), "journal.json")}
	if found, err := f.Read(); found != nil || err != nil {
		t.Fatalf("before the first Write: %v, %v", found, err)
	}
	if err := f.Forget(); err != nil {
		t.Fatal("nothing to forget:", err)
	}
	for _, was := range [][]string{{"first"}, {"second", "third"}} {
		if err := f.Write(was); err != nil {
			t.Fatal(err)
		}
		found, err := f.Read()
		if err != nil || !found.ThisBoot || strings.Join(found.Was, " ") != strings.Join(was, " ") {
			t.Errorf("%v became %v, %v", was, found, err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(f.Path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the journal there is %v, %v", entries, err)
	}
	if err := f.Forget(); err != nil {
		t.Fatal(err)
	}
	if found, err := f.Read(); found != nil || err != nil {
		t.Errorf("after Forget: %v, %v", found, err)
	}
}

func TestAnotherBootIsTold(t *testing.T) {
	f := File[int]{Path: filepath.Join(t.TempDir(), "journal.json")}
	if err := os.WriteFile(f.Path, []byte(`{"boot_id": "of another boot", "was": 7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := f.Read()
	if err != nil || found.ThisBoot || found.Was != 7 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestDamageIsToldAndNotRemoved(t *testing.T) {
	f := File[int]{Path: filepath.Join(t.TempDir(), "journal.json")}
	if err := os.WriteFile(f.Path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(); err == nil || !strings.Contains(err.Error(), "then remove "+f.Path) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(f.Path); err != nil {
		t.Error(err)
	}
}

func TestFailedWriteKeepsTheFormer(t *testing.T) {
	dir := t.TempDir()
	f := File[string]{Path: filepath.Join(dir, "journal.json")}
	if err := f.Write("former"); err != nil {
		t.Fatal(err)
	}
	// A folder in the place of the file refuses the rename, whoever runs the test.
	taken := File[string]{Path: filepath.Join(dir, "taken")}
	if err := os.MkdirAll(filepath.Join(taken.Path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := taken.Write("next"); err == nil {
		t.Error("a folder was replaced")
	}
	if found, err := f.Read(); err != nil || found.Was != "former" {
		t.Errorf("%v, %v", found, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("half-written files are left: %v, %v", entries, err)
	}
}

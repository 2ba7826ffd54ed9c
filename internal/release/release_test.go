package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// made makes a release for this platform and returns its files.
func made(t *testing.T, out string) map[string][]byte {
	t.Helper()
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if err := run(t.Context(), []string{"-version", "v0.9.1", "-out", out, "-platforms", platform, "-provider", "../../provider"}); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	err := filepath.WalkDir(out, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(out, path)
		if err != nil {
			return err
		}
		files[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: builds the provider")
	}
	out := t.TempDir()
	first, second := made(t, out), made(t, t.TempDir())
	for name, raw := range first {
		if !bytes.Equal(raw, second[name]) {
			t.Errorf("%s differs between two runs", name)
		}
	}
	archive := fmt.Sprintf("terraform-provider-wattle_0.9.1_%s_%s.zip", runtime.GOOS, runtime.GOARCH)
	digest := sha256.Sum256(first[archive])
	sums := string(first["terraform-provider-wattle_0.9.1_SHA256SUMS"])
	if !strings.Contains(sums, hex.EncodeToString(digest[:])+"  "+archive+"\n") || !strings.Contains(sums, "_manifest.json\n") {
		t.Errorf("sums:\n%s", sums)
	}
	if manifest := string(first["terraform-provider-wattle_0.9.1_manifest.json"]); !strings.Contains(manifest, `"6.0"`) {
		t.Errorf("manifest: %s", manifest)
	}
	for _, example := range []string{"quickstart", "cloud-init"} {
		t.Run("mirror "+example, func(t *testing.T) { initOffline(t, out, "../../examples/"+example) })
	}
}

// initOffline installs the provider from the mirror and validates an example
// with it. There is no other way to get it, so nothing is asked of a network.
func initOffline(t *testing.T, out, example string) {
	t.Helper()
	terraform := os.Getenv("TF_ACC_TERRAFORM_PATH")
	if terraform == "" {
		var err error
		if terraform, err = exec.LookPath("terraform"); err != nil {
			t.Skip("SKIPPED: no terraform on the path and TF_ACC_TERRAFORM_PATH is not set")
		}
	}
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	rc := filepath.Join(folder, "mirror.tfrc")
	text := fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", filepath.Join(out, "mirror"))
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-backend=false", "-no-color"}, {"validate", "-no-color"}, {"providers", "lock", "-fs-mirror=" + filepath.Join(out, "mirror"), "-no-color"}} {
		command := exec.CommandContext(t.Context(), terraform, args...)
		command.Dir = folder
		command.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+rc, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1")
		if text, err := command.CombinedOutput(); err != nil {
			t.Fatalf("terraform %v: %v\n%s", args, err, text)
		}
	}
	lock, err := os.ReadFile(filepath.Join(folder, ".terraform.lock.hcl"))
	if err != nil || !strings.Contains(string(lock), `"0.9.1"`) {
		t.Errorf("lock file: %s, %v", lock, err)
	}
}

func TestReleaseNeedsAVersion(t *testing.T) {
	for _, version := range []string{"", "1", "1.2", "v1.2", "01.2.3", "1.2.3+build", "9d77200-dirty", "1.2.3-"} { // 1.2.3-rc.1 is one
		if err := run(t.Context(), []string{"-version", version, "-out", t.TempDir()}); err == nil || !strings.Contains(err.Error(), "no version") {
			t.Errorf("%q: %v", version, err)
		}
	}
}

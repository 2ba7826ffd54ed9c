package cli

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/internal/program"
)

// unpack reads a bundle into one text per file, without the folder.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for reader := tar.NewReader(unzipped); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(header.Name)] = string(text)
	}
}

// TestBundleHoldsNoSecret: a machine that is a peer, with everything logged.
func TestBundleHoldsNoSecret(t *testing.T) {
	plane := controlplanetest.New(t)
	socket := daemon(t)
	wattle := func(args ...string) string {
		t.Helper()
		code, stdout, stderr := run(t, append(args, "--socket", socket)...)
		if code != 0 {
			t.Fatalf("%v: exit %d, %s", args, code, stderr)
		}
		return stdout
	}
	wattle("debug", "log", "level", "debug")
	wattle("up", "--management-url", plane.URL, "--setup-key", plane.SetupKey)
	var whoami struct {
		Name      string `json:"name"`
		PeerID    string `json:"peer_id"`
		PublicKey string `json:"public_key"`
	}
	if err := json.Unmarshal([]byte(wattle("whoami", "--json")), &whoami); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(filepath.Dir(socket), "state")
	secrets := map[string]string{"setup key": plane.SetupKey, "token of the administrator": plane.Token}
	maps.Copy(secrets, stateSecrets(t, state))
	for _, mode := range []string{"none", "strict"} {
		path := filepath.Join(t.TempDir(), "bundle.tar.gz")
		args := []string{"debug", "bundle", "--redact", mode, "--output", path}
		if mode == "none" {
			args = append(args, "--capture", "50ms")
		}
		if out := wattle(args...); !strings.Contains(out, "log.txt") || !strings.Contains(out, path) {
			t.Errorf("the contents are not listed:\n%s", out)
		}
		files := unpack(t, path)
		for _, name := range []string{"CONTENTS.txt", "status.json", "settings.json", "netcheck.json", "rules.json", "metrics.txt", "log.txt", "goroutines.txt", "host.txt"} {
			if files[name] == "" {
				t.Errorf("%s: %s is empty", mode, name)
			}
		}
		if (files["changes.ndjson"] != "") != (mode == "none") {
			t.Errorf("%s: changes %q", mode, files["changes.ndjson"])
		}
		for name, text := range files {
			for what, secret := range secrets {
				if secret == "" || strings.Contains(text, secret) {
					t.Errorf("%s: the %s stands in %s", mode, what, name)
				}
			}
			if mode == "strict" && (strings.Contains(text, whoami.PeerID) || strings.Contains(text, whoami.PublicKey)) {
				t.Errorf("strict: this machine is named in %s", name)
			}
		}
		if shown := strings.Contains(files["status.json"], whoami.PublicKey); shown != (mode != "strict") {
			t.Errorf("%s: the public key is shown: %t", mode, shown)
		}
		if about, err := os.Stat(path); err != nil || about.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", mode, about.Mode(), err)
		}
		if code, _, stderr := run(t, append(args, "--socket", socket)...); code != program.ExitFailed || !strings.Contains(stderr, "--output") {
			t.Errorf("a file was written over: exit %d, %s", code, stderr)
		}
	}
	if level := wattle("get", "log_level"); level != "error\n" {
		t.Errorf("log_level is %q", level)
	}
}

// stateSecrets are the private keys in a state folder, as they lie on disk.
func stateSecrets(t *testing.T, dir string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	var stored struct {
		MachineKey   string `json:"machine_key"`
		WireGuardKey string `json:"wireguard_key"`
	}
	if err := json.Unmarshal(raw, &stored); err != nil {
		t.Fatal(err)
	}
	seed, err := base64.StdEncoding.DecodeString(stored.MachineKey)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"machine key": stored.MachineKey, "WireGuard key": stored.WireGuardKey, "machine key without padding": base64.RawStdEncoding.EncodeToString(seed),
	}
}

// Package sdk_test runs the examples of the Go SDK.
package sdk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// An examples is the built programs and the profile that they read.
type examples struct{ bin, profile string }

func (e examples) run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(e.bin, name), args...)
	command.Env = append(os.Environ(), "WATTLE_CREDENTIALS="+e.profile)
	out, err := command.Output()
	return string(out), err
}

func (e examples) must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := e.run(t, name, args...)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

func TestExamples(t *testing.T) {
	plane := controlplanetest.New(t)
	e := examples{bin: t.TempDir(), profile: filepath.Join(t.TempDir(), "credentials")}
	if err := (sdk.Profile{URL: plane.URL, Token: plane.Token}).Write(e.profile); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", e.bin, "./...").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}

	secret := strings.TrimSpace(e.must(t, "create-setup-key", "-name", "web-1", "-group", "web servers"))
	again := strings.TrimSpace(e.must(t, "create-setup-key", "-name", "web-2", "-group", "web servers")) // the group is there
	if !strings.HasPrefix(secret, "wtk_") || !strings.HasPrefix(again, "wtk_") || secret == again {
		t.Fatalf("keys %q and %q", secret, again)
	}
	plane.SetupKey = secret
	machine := controlplanetest.NewMachine(t, plane)
	peer, err := plane.Client.GetPeer(t.Context(), machine.PeerID)
	if err != nil {
		t.Fatal(err)
	}
	if out := e.must(t, "list-peers"); !strings.Contains(out, peer.Name) || !strings.Contains(out, peer.Ip) {
		t.Errorf("list-peers prints %q", out)
	}

	old := find(t, plane.Client, "web-2")
	rotated := strings.TrimSpace(e.must(t, "rotate-setup-key", "-id", old.Id))
	if !strings.HasPrefix(rotated, "wtk_") || rotated == again {
		t.Errorf("rotated to %q", rotated)
	}
	if now, err := plane.Client.GetSetupKey(t.Context(), old.Id); err != nil || !now.Revoked {
		t.Errorf("the old key: %+v, %v", now, err)
	}
	plane.SetupKey = rotated
	if controlplanetest.NewMachine(t, plane).PeerID == "" {
		t.Error("nobody can enrol with the rotated key")
	}
	if _, err := e.run(t, "rotate-setup-key", "-id", "nosuch"); err == nil {
		t.Error("a key that does not exist is rotated")
	}

	out := e.must(t, "watch-audit", "-count", "3")
	if strings.Count(out, "\n") != 3 || !strings.Contains(out, "by owner over api") {
		t.Errorf("watch-audit prints %q", out)
	}
}

func find(t *testing.T, client *sdk.Client, name string) api.SetupKey {
	t.Helper()
	for key, err := range client.SetupKeys(t.Context(), sdk.ListSetupKeysOptions{Name: name}) {
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	t.Fatalf("no setup key %s", name)
	return api.SetupKey{}
}

package unit

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// systemd runs systemd-analyze on the unit, with a program that exists.
func systemd(t *testing.T, arguments ...string) string {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIPPED: systemd-analyze is not installed; on Debian: apt install systemd")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(Agent, "/usr/local/bin/wattle", self)
	text = regexp.MustCompile(`(?m)^(User|Group)=wattle$`).ReplaceAllString(text, "$1=daemon")
	file := filepath.Join(t.TempDir(), "wattle.service")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, append(arguments, file)...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

func TestSystemdUnderstandsTheUnit(t *testing.T) {
	if out := systemd(t, "verify", "--man=no"); strings.Contains(out, "wattle.service") {
		t.Error(out)
	}
}

// TestExposure: systemd's own measure of what a unit may do, 0 to 10; a unit
// that sets nothing has 9.6.
func TestExposure(t *testing.T) {
	out := systemd(t, "security", "--offline=true", "--no-pager")
	m := regexp.MustCompile(`Overall exposure level[^:]*: ([\d.]+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no level in\n%s", out)
	}
	if level, err := strconv.ParseFloat(m[1], 64); err != nil || level > 3 {
		t.Errorf("the exposure is %s, want 3 at most\n%s", m[1], out)
	}
}

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

// units are the files by the names that systemd knows them under.
var units = map[string]string{
	"wattle.service": Agent, "wattle-online.target": Online, "wattle-wait-online.service": Wait,
}

// systemd runs systemd-analyze on a unit beside the others, with a program that
// exists.
func systemd(t *testing.T, unit string, arguments ...string) string {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIPPED: systemd-analyze is not installed; on Debian: apt install systemd")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, text := range units {
		text = strings.ReplaceAll(text, "/usr/local/bin/wattle", self)
		text = regexp.MustCompile(`(?m)^(User|Group)=wattle$`).ReplaceAllString(text, "$1=daemon")
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(program, append(arguments, filepath.Join(folder, unit))...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

func TestSystemdUnderstandsTheUnits(t *testing.T) {
	for name := range units {
		if out := systemd(t, name, "verify", "--man=no"); strings.Contains(out, "wattle") {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// TestExposure: systemd's own measure of what a unit may do, 0 to 10; a unit
// that sets nothing has 9.6.
func TestExposure(t *testing.T) {
	for name, most := range map[string]float64{"wattle.service": 3, "wattle-wait-online.service": 1.5} {
		out := systemd(t, name, "security", "--offline=true", "--no-pager")
		m := regexp.MustCompile(`Overall exposure level[^:]*: ([\d.]+)`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no level in\n%s", out)
		}
		if level, err := strconv.ParseFloat(m[1], 64); err != nil || level > most {
			t.Errorf("the exposure of %s is %s, want %v at most\n%s", name, m[1], most, out)
		}
	}
}

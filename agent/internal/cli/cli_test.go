package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/internal/program"
)

// run runs a command line and returns its exit code and output.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = program.Run(t.Context(), New(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// daemon runs a real daemon without a tunnel until the test ends.
func daemon(t *testing.T) (socket string) {
	t.Helper()
	dir := t.TempDir()
	socket = filepath.Join(dir, "a.sock")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	var out, errs bytes.Buffer
	go func() {
		done <- program.Run(ctx, New(), []string{
			"daemon", "--socket", socket, "--state-dir", filepath.Join(dir, "state"), "--tunnel", "netstack", "--log-level", "error",
			"--settings", filepath.Join(dir, "agent.json"),
		}, &out, &errs)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("the daemon ended with %d: %s", code, errs.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; {
		if code, _, _ := run(t, "status", "--socket", socket); code == 0 {
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatalf("the daemon does not answer: %s", errs.String())
		}
	}
}

func TestExitCodesWithoutADaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "no.sock")
	for _, args := range [][]string{
		{"status"},
		{"status", "--json"},
		{"status", "--check", "live"},
		{"status", "-w"},
		{"up"},
		{"down"},
		{"logout"},
		{"ping", "x"},
		{"wait"},
		{"set", "dns=off"},
		{"get"},
		{"config", "show"},
		{"config", "reload"},
		{"debug", "log", "level", "debug"},
		{"dns", "query", "x"},
		{"whois", "x"},
		{"whoami"},
		{"ip"},
		{"route", "list"},
		{"access", "a", "b", "--local"},
		{"trace", "in", "a", "b", "icmp"},
	} {
		code, stdout, stderr := run(t, append(args, "--socket", socket)...)
		if code != program.ExitDaemonUnreachable || stdout != "" || !strings.Contains(stderr, "wattle daemon") {
			t.Errorf("%v: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
	for _, args := range [][]string{
		{},
		{"nonsense"},
		{"ping"},
		{"ping", "a", "b"},
		{"ping", "a", "--interval", "0"},
		{"up", "--management-url", "mesh.example"},
		{"up", "--management-url", "http://mesh.example"},
		{"up", "--management-url", "https://mesh.example", "--ca-pin", "x"},
		{"up", "--timeout", "-5s"},
		{"netcheck", "--management-url", "mesh.example"},
		{"wait", "--for", "rain"},
		{"wait", "--for", "peer:"},
		{"dns", "query"},
		{"status", "--format", "{{"},
		{"status", "--nonsense"},
		{"daemon", "--tunnel", "carrier-pigeon"},
		{"dns"},
		{"dns", "nonsense"},
		{"config", "nonsense"},
		{"debug", "log", "level", "loud"},
		{"status", "--check", "rain"},
		{"set"},
		{"set", "dns"},
		{"set", "nonsense=1"},
		{"set", "dns=maybe"},
		{"set", "dns=auto", "dns=off"},
		{"version", "--format", "{{"},
		{"version", "--format", "{{.nonsense}}"},
		{"version", "--json", "--format", "x"},
		{"version", "x"},
		{"trace", "in", "a", "b"},
		{"trace", "up", "a", "b", "icmp"},
		{"trace", "in", "a", "b", "gre"},
		{"access", "a", "b", "tcp"},
		{"access", "a", "b", "tcp/0"},
		{"access", "a", "b", "tcp/70000"},
		{"access", "a", "b", "icmp/1"},
		{"access", "a"},
		{"whois"},
		{"ip", "-4", "-6"},
		{"netcheck", "--expect", "nonsense"},
	} {
		if code, _, stderr := run(t, append(args, "--socket", socket)...); code != program.ExitUsage {
			t.Errorf("%v: exit %d, %q", args, code, stderr)
		}
	}
}

func TestBeforeEnrolment(t *testing.T) {
	socket := daemon(t)
	code, stdout, _ := run(t, "status", "--json", "--socket", socket)
	var status map[string]any
	if err := json.Unmarshal([]byte(stdout), &status); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s", code, err, stdout)
	}
	if status["schema"] != "wattle.status/v1" || status["state"] != "not_enrolled" {
		t.Errorf("status %v", status)
	}
	for _, name := range []string{"addresses", "peers", "warnings"} {
		if _, list := status[name].([]any); !list {
			t.Errorf("%s is %v, want a list", name, status[name])
		}
	}
	for _, test := range []struct {
		code int
		hint string
		args []string
	}{
		{program.ExitNotEnrolled, "--management-url", []string{"up"}},
		{program.ExitNotEnrolled, "setup key", []string{"up", "--management-url", "https://127.0.0.1:1"}},
		{program.ExitControlPlaneUnreachable, "refused", []string{"up", "--management-url", "https://127.0.0.1:1", "--setup-key", "wtk_x"}},
		{program.ExitUsage, "https://host:port", []string{"up", "--management-url", "mesh", "--setup-key", "wtk_x"}},
		{program.ExitUsage, "64 hexadecimal", []string{"up", "--management-url", "https://127.0.0.1:1", "--setup-key", "wtk_x", "--ca-pin", "x"}},
		{program.ExitNotEnrolled, "wattle up", []string{"ping", "web-1"}},
		{program.ExitTimedOut, "ready", []string{"wait", "--timeout", "20ms"}},
		{program.ExitUsage, "peer:NAME", []string{"wait", "--for", "rain"}},
		{program.ExitTimedOut, "dns:web-1", []string{"wait", "--for", "dns:web-1", "--timeout", "20ms"}},
		{program.ExitDone, "", []string{"status", "--check", "live"}},
		{program.ExitNotEnrolled, "wattle up", []string{"status", "--check", "ready"}},
		{program.ExitNotEnrolled, "wattle up", []string{"status", "--check", "connected"}},
		{program.ExitFailed, "no peer", []string{"status", "--peer", "web-1"}},
		{program.ExitNotEnrolled, "wattle up", []string{"whoami"}},
		{program.ExitNotEnrolled, "wattle up", []string{"ip"}},
		{program.ExitNotEnrolled, "wattle up", []string{"route", "list"}},
		{program.ExitNotEnrolled, "wattle up", []string{"dns", "status"}},
		{program.ExitNotEnrolled, "wattle up", []string{"whois", "100.64.0.1"}},
		{program.ExitNotEnrolled, "wattle up", []string{"trace", "in", "a", "b", "icmp"}},
		{program.ExitNotEnrolled, "wattle up", []string{"access", "a", "b", "--local"}},
		{program.ExitNotEnrolled, "--local", []string{"access", "a", "b", "--credentials", "/absent"}},
		{program.ExitUsage, "there is no setting", []string{"get", "nonsense"}},
		{program.ExitDone, "", []string{"down"}},
		{program.ExitDone, "", []string{"logout", "--delete"}},
	} {
		code, _, stderr := run(t, append(test.args, "--socket", socket)...)
		if code != test.code || !strings.Contains(stderr, test.hint) {
			t.Errorf("%v: exit %d, want %d; %q, want %q in it", test.args, code, test.code, stderr, test.hint)
		}
	}
}

func TestSettings(t *testing.T) {
	socket := daemon(t)
	wattle := func(args ...string) (stdout, stderr string) {
		t.Helper()
		code, stdout, stderr := run(t, append(args, "--socket", socket)...)
		if code != 0 {
			t.Fatalf("%v: exit %d, %s", args, code, stderr)
		}
		return stdout, stderr
	}
	if out, _ := wattle("set", "hostname=web-1", "mtu=1400"); out != "" {
		t.Errorf("set prints %q", out)
	}
	if _, warned := wattle("set", "log_level=debug"); !strings.Contains(warned, "--log-level") {
		t.Errorf("no warning about the flag: %q", warned)
	}
	if out, _ := wattle("get", "hostname"); out != "web-1\n" {
		t.Errorf("get prints %q", out)
	}
	if out, _ := wattle("get", "mtu", "log-level"); out != "mtu=1400\nlog_level=error\n" {
		t.Errorf("get prints %q", out)
	}
	if out, _ := wattle("config", "show", "--effective", "--origin"); !strings.Contains(out, "mtu               1400      file "+filepath.Dir(socket)) {
		t.Errorf("config show prints\n%s", out)
	}
	if out, _ := wattle("config", "show"); strings.Contains(out, "listen_port") || !strings.Contains(out, "hostname") {
		t.Errorf("config show prints\n%s", out)
	}
	if out, _ := wattle("config", "show", "--effective", "--format", `{{range .settings}}{{if eq .name "mtu"}}{{.value}}{{end}}{{end}}`); out != "1400\n" {
		t.Errorf("the template prints %q", out)
	}
	wattle("set", "mtu=")
	if out, _ := wattle("get", "mtu"); out != "0\n" {
		t.Errorf("get prints %q", out)
	}
	wattle("debug", "log", "level", "warn")
	wattle("config", "reload")
}

func TestStatusThatIsFollowed(t *testing.T) {
	socket := daemon(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var lines firstLine
	lines.enough = cancel
	var errs bytes.Buffer
	if code := program.Run(ctx, New(), []string{"status", "-w", "--json", "--socket", socket}, &lines, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	var status map[string]any
	if err := json.Unmarshal(lines.Bytes(), &status); err != nil || status["schema"] != "wattle.status/v1" {
		t.Errorf("%v: %s", err, lines.String())
	}
}

// firstLine calls enough once it holds a line.
type firstLine struct {
	bytes.Buffer
	enough func()
}

func (f *firstLine) Write(p []byte) (int, error) {
	defer f.enough()
	return f.Buffer.Write(p)
}

func TestSetupKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("  wtk_file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key, file, want string
		fails           bool
	}{
		{"", "", "", false},
		{"wtk_flag", "", "wtk_flag", false},
		{"", file, "wtk_file", false},
		{"", "-", "wtk_stdin", false},
		{"", empty, "", true},
		{"", file + ".absent", "", true},
		{"wtk_flag", file, "", true},
	} {
		got, err := setupKey(strings.NewReader("wtk_stdin\n"), test.key, test.file)
		if got != test.want || (err != nil) != test.fails {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
}

func TestSetupKeyFromACredential(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", folder)
	if got := credential(""); got != "" {
		t.Errorf("a credential that is not there: %q", got)
	}
	file := filepath.Join(folder, "setup-key")
	if err := os.WriteFile(file, []byte("wtk_x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := credential(""); got != file {
		t.Errorf("credential %q", got)
	}
	if got := credential("wtk_flag"); got != "" {
		t.Errorf("the credential beside a flag: %q", got)
	}
}

func TestSetupKeyOnTheCommandLineWarns(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "no.sock")
	if _, _, stderr := run(t, "up", "--setup-key", "wtk_x", "--socket", socket); !strings.Contains(stderr, "process list") {
		t.Errorf("no warning: %q", stderr)
	}
	t.Setenv("WATTLE_SETUP_KEY", "wtk_x")
	if _, _, stderr := run(t, "up", "--socket", socket); strings.Contains(stderr, "process list") {
		t.Errorf("a warning about the environment: %q", stderr)
	}
}

func TestVersion(t *testing.T) {
	code, stdout, _ := run(t, "version", "--json")
	var version map[string]string
	if err := json.Unmarshal([]byte(stdout), &version); err != nil || code != 0 || version["version"] == "" {
		t.Errorf("exit %d, %v: %s", code, err, stdout)
	}
}

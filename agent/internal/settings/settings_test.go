package settings

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/wattlenet/wattle/internal/program"
)

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func origins(b *Book, server Given) map[string]string {
	found := map[string]string{}
	for _, each := range b.Effective(server) {
		found[each.Setting.Name] = string(each.Origin) + " " + each.Value
	}
	return found
}

func TestStrongerSourceWins(t *testing.T) {
	path := write(t, `{"hostname": "file", "log_level": "warn", "mtu": 1400, "dns": "file", "relay_transports": ["tcp", "tls"]}`)
	b, err := Open(path, Given{"hostname": "flag"}, Given{"hostname": "variable", "log_level": "error"})
	if err != nil {
		t.Fatal(err)
	}
	server := Given{"dns": "off", "mtu": "9", "operator": "ops", "tunnel": "carrier-pigeon"}
	got := origins(b, server)
	want := map[string]string{
		"hostname": "flag flag", "log_level": "env error", "mtu": "file 1400", "dns": "file file", "relay_transports": "file tcp,tls",
		"operator": "server ops", "tunnel": "default auto", "listen_port": "default 0",
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
	if v := b.Values(server); v.Hostname != "flag" || v.MTU != 1400 || v.DNS != "file" || !slices.Equal(v.RelayTransports, []string{"tcp", "tls"}) || v.Tunnel != "auto" {
		t.Errorf("values %+v", v)
	}
}

// TestOneCommandLine goes the whole way from flags and variables.
func TestOneCommandLine(t *testing.T) {
	t.Setenv("WATTLE_LISTEN_PORT", "51820")
	t.Setenv("WATTLE_DNS", "file")
	var given, variables Given
	command := &cobra.Command{Use: "wattle", Args: cobra.NoArgs}
	read := Flags(command.Flags())
	command.RunE = func(*cobra.Command, []string) error { given, variables = read(); return nil }
	var out strings.Builder
	if code := program.Run(t.Context(), command, []string{"--dns", "off", "--relay-transports", "udp,tcp"}, &out, &out); code != 0 {
		t.Fatal(out.String())
	}
	if diff := cmp.Diff(Given{"dns": "off", "relay_transports": "udp,tcp"}, given); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Given{"listen_port": "51820"}, variables); diff != "" {
		t.Error(diff)
	}
	if code := program.Run(t.Context(), command, []string{"--tunnel", "carrier-pigeon"}, &out, &out); code != program.ExitUsage || !strings.Contains(out.String(), "netstack") {
		t.Errorf("exit %d: %s", code, out.String())
	}
}

func TestFilesThatAreWrong(t *testing.T) {
	for content, hint := range map[string]string{
		`{`:                                  "JSON",
		`[]`:                                 "JSON",
		`{"mtu": 12}`:                        "1280",
		`{"mtu": "wide"}`:                    "number",
		`{"listen_port": 70000}`:             "65535",
		`{"dns": "perhaps"}`:                 "systemd-resolved",
		`{"tunnel": "carrier-pigeon"}`:       "userspace",
		`{"interface": "a name too long.."}`: "interface",
		`{"relay_transports": ["smoke"]}`:    "websocket",
		`{"relay_transports": [1]}`:          "texts",
		`{"hostname": null}`:                 "leave the key out",
		`{"hostname": {"a": 1}}`:             "leave the key out",
	} {
		if _, err := Open(write(t, content), nil, nil); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v, want %q in it", content, err, hint)
		}
	}
	b, err := Open(write(t, `{"listen-port": 1, "from_the_future": 1}`), nil, nil)
	if err != nil || len(b.Warnings()) != 2 || b.Values(nil).ListenPort != 0 {
		t.Errorf("unknown keys: %v, %v", err, b.Warnings())
	}
	if b, err := Open(filepath.Join(t.TempDir(), "absent.json"), nil, nil); err != nil || !cmp.Equal(b.Values(nil), Defaults()) {
		t.Errorf("no file: %v", err)
	}
}

func TestChange(t *testing.T) {
	path := write(t, `{"mtu": 1400, "from_the_future": {"keep": "me"}}`)
	b, err := Open(path, Given{"log_level": "warn"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []Given{{"mtu": "9"}, {"hostname": "good", "tunnel": "bad"}, {"nonsense": "1"}} {
		if _, err := b.Change(wrong); err == nil {
			t.Errorf("%v was taken", wrong)
		}
	}
	undo, err := b.Change(Given{"hostname": "web-1", "mtu": "", "log_level": "debug", "relay-transports": "udp, tcp"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"from_the_future\": {\n    \"keep\": \"me\"\n  },\n  \"hostname\": \"web-1\",\n  \"log_level\": \"debug\",\n  \"relay_transports\": [\n    \"udp\",\n    \"tcp\"\n  ]\n}\n"
	if diff := cmp.Diff(want, string(raw)); diff != "" {
		t.Error(diff)
	}
	if v := b.Values(nil); v.Hostname != "web-1" || v.MTU != 0 || v.LogLevel != "warn" {
		t.Errorf("values %+v", v)
	}
	if origin, hidden := b.Covers("log-level"); !hidden || origin != FromFlag {
		t.Errorf("log_level is hidden by %q", origin)
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, nil, nil)
	if err != nil || again.Values(nil).MTU != 1400 || again.Values(nil).Hostname != "" {
		t.Errorf("after undo: %+v, %v", again.Values(nil), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
}

// TestChangeKeepsWhatOthersWrote: somebody may edit the file, and never tell the
// daemon.
func TestChangeKeepsWhatOthersWrote(t *testing.T) {
	path := write(t, `{"mtu": 1400}`)
	b, err := Open(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	const byHand = `{"mtu": 1300, "hostname": "by-hand", "from_the_future": 1}`
	edit := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit(byHand)
	undo, err := b.Change(Given{"log_level": "debug"})
	if err != nil {
		t.Fatal(err)
	}
	if v := b.Values(nil); v.MTU != 1300 || v.Hostname != "by-hand" || v.LogLevel != "debug" || len(b.Warnings()) != 1 {
		t.Errorf("values %+v, warnings %q", v, b.Warnings())
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	if v := b.Values(nil); v.MTU != 1400 || v.Hostname != "" || v.LogLevel != "info" || len(b.Warnings()) != 0 {
		t.Errorf("after undo: %+v, warnings %q", v, b.Warnings())
	}
	again, err := Open(path, nil, nil)
	if err != nil || again.Values(nil).Hostname != "by-hand" || again.Values(nil).LogLevel != "info" {
		t.Errorf("the file after undo: %+v, %v", again.Values(nil), err)
	}
	// What is not understood is not replaced.
	edit(`{"mtu": 1300,`)
	if _, err := b.Change(Given{"log_level": "debug"}); err == nil || !strings.Contains(err.Error(), "correct the file") {
		t.Errorf("error %v", err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != `{"mtu": 1300,` {
		t.Errorf("it holds %q, %v", raw, err)
	}
}

func TestDifference(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Values)
		want   Effect
	}{
		"nothing": {func(*Values) {}, AtOnce},
		"level":   {func(v *Values) { v.LogLevel = "debug" }, AtOnce},
		"name":    {func(v *Values) { v.Hostname = "x" }, Facts},
		"mtu":     {func(v *Values) { v.MTU = 1300; v.Hostname = "x" }, Reopen},
		"port":    {func(v *Values) { v.ListenPort = 1; v.DNS = "off" }, Reopen},
	} {
		changed := Defaults()
		test.change(&changed)
		if got := Difference(Defaults(), changed); got != test.want {
			t.Errorf("%s: effect %d, want %d", name, got, test.want)
		}
	}
}

// TestTableIsWhole: every field of Values has one row, whose default parses.
func TestTableIsWhole(t *testing.T) {
	v := Defaults()
	seen := map[string]bool{}
	for _, s := range All() {
		if seen[s.Name] || s.Usage == "" || strings.ContainsAny(s.Name, "- ") {
			t.Errorf("%q is not a good row", s.Name)
		}
		seen[s.Name] = true
		if err := s.Check(s.field(&v).String()); err != nil {
			t.Errorf("%s: its default does not pass: %v", s.Name, err)
		}
	}
	if fields := reflect.TypeFor[Values]().NumField(); fields != len(seen) {
		t.Errorf("%d fields and %d rows", fields, len(seen))
	}
}

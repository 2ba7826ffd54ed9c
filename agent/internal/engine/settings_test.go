package engine

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/agent/internal/local"
	"github.com/wattlenet/wattle/agent/internal/settings"
	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/internal/program"
)

// joinWith joins a machine with a settings file of its own.
func joinWith(t *testing.T, plane *controlplanetest.Server) (m *machine, file string, level *slog.LevelVar) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "agent.json")
	book, err := settings.Open(file, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	level = &slog.LevelVar{}
	m = bootWith(t, t.TempDir(), func(c *Config) { c.Settings, c.Level = book, level }, &Fake{})
	if err := m.Up(t.Context(), local.UpRequest{ManagementURL: plane.URL, SetupKey: plane.SetupKey}); err != nil {
		t.Fatal(err)
	}
	return m, file, level
}

func set(t *testing.T, m *machine, changes map[string]string) {
	t.Helper()
	if _, err := m.Set(t.Context(), local.SetRequest{Settings: changes}); err != nil {
		t.Fatal(err)
	}
}

func TestSettingsActOnTheRunningMachine(t *testing.T) {
	plane := controlplanetest.New(t)
	m, _, level := joinWith(t, plane)
	m.Fake.Calls()

	set(t, m, map[string]string{"log_level": "debug"})
	if calls := m.Fake.Calls(); level.Level() != slog.LevelDebug || len(calls) != 0 {
		t.Errorf("level %v, calls %v", level.Level(), calls)
	}

	set(t, m, map[string]string{"hostname": "renamed-by-setting"})
	for limit := time.Now().Add(10 * time.Second); ; {
		peers, err := plane.Client.ListPeers(t.Context(), noFilter)
		if err != nil || time.Now().After(limit) {
			t.Fatalf("the control plane was not told: %+v, %v", peers, err)
		}
		if peers[0].Hostname == "renamed-by-setting" && peers[0].Name == "renamed-by-setting" {
			break
		}
	}

	m.Fake.Calls()
	set(t, m, map[string]string{"mtu": "1400", "listen_port": "51821", "path_mode": "relay", "relay_transports": "tcp", "dns": "off"})
	m.until("ready", func(s local.Status) bool { return s.State == local.StateReady })
	if calls := m.Fake.Calls(); !slices.Contains(calls, "tunnel closed") || !slices.Contains(calls, "open") {
		t.Errorf("the tunnel was not opened anew: %v", calls)
	}
	opened := m.Fake.Opened()
	if opened.MTU != 1400 || opened.ListenPort != 51821 || opened.Force != "relayed" || opened.DNS != "off" || !slices.Equal(opened.RelayTransports, []string{"tcp"}) {
		t.Errorf("opened with %+v", opened)
	}
}

// TestAccountWantsPathsKept: what the account wants of paths reaches the machines
// that are there, which say so, and one may want it otherwise.
func TestAccountWantsPathsKept(t *testing.T) {
	plane := controlplanetest.New(t)
	m, _, _ := joinWith(t, plane)
	kept := func() bool {
		m.Fake.mu.Lock()
		defer m.Fake.mu.Unlock()
		return m.kept
	}
	var change api.AccountSettingsRequest
	change.LazyConnectionEnabled.Set(false)
	if _, err := plane.Client.UpdateAccountSettings(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	m.until("paths that are kept", func(local.Status) bool { return kept() })
	said := m.Settings(t.Context()).Settings
	at := slices.IndexFunc(said, func(s local.Setting) bool { return s.Name == "lazy_connections" })
	if at < 0 || said[at].Text != "false" || said[at].Origin != "server" {
		t.Errorf("settings %+v", said)
	}
	set(t, m, map[string]string{"lazy_connections": "on"})
	m.until("paths that are not", func(local.Status) bool { return !kept() })
}

// TestInterfaceThatIsRemovedIsMadeAgain: with the identity and the map that it had.
func TestInterfaceThatIsRemovedIsMadeAgain(t *testing.T) {
	plane := controlplanetest.New(t)
	m, _, _ := joinWith(t, plane)
	m.until("ready", func(s local.Status) bool { return s.State == local.StateReady })
	m.Fake.Calls()
	m.RemoveInterface()
	var calls []string
	m.until("opened again", func(s local.Status) bool {
		calls = append(calls, m.Fake.Calls()...)
		return s.State == local.StateReady && slices.Contains(calls, "open") && slices.Contains(calls, "tunnel")
	})
	closed, opened := slices.Index(calls, "tunnel closed"), slices.Index(calls, "open")
	if closed < 0 || closed > opened {
		t.Errorf("what was left was not closed before: %v", calls)
	}
}

// TestSettingThatCannotWorkIsTakenBack: the machine goes on as it was.
func TestSettingThatCannotWorkIsTakenBack(t *testing.T) {
	plane := controlplanetest.New(t)
	m, file, _ := joinWith(t, plane)
	m.FailNext("open", errInjected)
	_, err := m.Set(t.Context(), local.SetRequest{Settings: map[string]string{"listen_port": "1"}})
	if err == nil || !strings.Contains(err.Error(), "injected") || !strings.Contains(err.Error(), "not taken") {
		t.Errorf("error %v", err)
	}
	m.until("ready", func(s local.Status) bool { return s.State == local.StateReady })
	if opened := m.Fake.Opened(); opened.ListenPort != 51820 {
		t.Errorf("opened with port %d", opened.ListenPort)
	}
	if raw, err := os.ReadFile(file); err != nil || strings.Contains(string(raw), "listen_port") {
		t.Errorf("the file holds %s, %v", raw, err)
	}
}

func TestSettingsFileIsReadAgain(t *testing.T) {
	plane := controlplanetest.New(t)
	m, file, level := joinWith(t, plane)
	if err := os.WriteFile(file, []byte(`{"log_level": "warn", "dns": "off"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Reload(t.Context()); err != nil || level.Level() != slog.LevelWarn {
		t.Errorf("level %v, %v", level.Level(), err)
	}
	m.until("ready", func(s local.Status) bool { return s.State == local.StateReady })
	if opened := m.Fake.Opened(); opened.DNS != "off" {
		t.Errorf("opened with %q", opened.DNS)
	}
	if err := os.WriteFile(file, []byte(`{"log_level": `), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Reload(t.Context()); err == nil || level.Level() != slog.LevelWarn {
		t.Errorf("half a file was taken: %v", err)
	}
	said := m.Settings(t.Context())
	at := slices.IndexFunc(said.Settings, func(s local.Setting) bool { return s.Name == "dns" })
	if said.Settings[at].Value != "off" || said.Settings[at].Origin != "file" || said.File != file {
		t.Errorf("settings %+v", said)
	}
}

func TestSetRefuses(t *testing.T) {
	m := boot(t, t.TempDir()) // without a file
	for _, test := range []struct {
		key, value string
		code       int
	}{{"nonsense", "1", program.ExitUsage}, {"dns", "off", program.ExitFailed}} {
		_, err := m.Set(t.Context(), local.SetRequest{Settings: map[string]string{test.key: test.value}})
		if own, ok := errors.AsType[*local.Error](err); !ok || own.Code != test.code {
			t.Errorf("%s: %v", test.key, err)
		}
	}
	if err := m.SetLevel(t.Context(), local.LevelRequest{Level: "loud"}); err == nil {
		t.Error("an unknown level was taken")
	}
}

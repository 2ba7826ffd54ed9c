package start

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/program"
)

// testConfig is an installation on loopback with free ports.
func testConfig(t *testing.T) Config {
	t.Helper()
	config := defaults(t)
	folder := t.TempDir()
	config.DataDir, config.Credentials = filepath.Join(folder, "data"), filepath.Join(folder, "home", "credentials")
	config.Listen, config.RelayListen = "127.0.0.1:0", "127.0.0.1:0"
	return config
}

// A running is an installation that serves until stop.
type running struct {
	url  string
	text func() string // what was printed, after stop
	stop func() error
}

// startUp runs a command until it says that it is ready.
func startUp(t *testing.T, command Command, config Config) running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	reader, writer := io.Pipe()
	var printed bytes.Buffer
	done, copied := make(chan error, 1), make(chan struct{})
	go func() {
		err := command(ctx, config, writer)
		_ = writer.CloseWithError(io.EOF)
		done <- err
	}()
	lines := bufio.NewReader(io.TeeReader(reader, &printed))
	first, err := lines.ReadString('\n')
	if err != nil {
		cancel()
		t.Fatalf("not ready: %v", <-done)
	}
	go func() { defer close(copied); _, _ = io.Copy(io.Discard, lines) }()
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		err := <-done
		<-copied
		return err
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	url, ok := strings.CutPrefix(strings.TrimSpace(first), "wattle-server is ready: ")
	if !ok {
		t.Fatalf("first line %q", first)
	}
	return running{url: url, stop: stop, text: printed.String}
}

func TestUpMakesEverythingOnceAndServes(t *testing.T) {
	config := testConfig(t)
	var log bytes.Buffer
	logger, err := (&program.Log{Level: "debug"}).Logger(&log)
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = logger
	up := startUp(t, Up, config)

	profile, err := sdk.ReadProfile(config.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	if profile.URL != up.url || !strings.HasPrefix(profile.Token, "wtp_") || !strings.HasPrefix(profile.CAPin, "sha256:") {
		t.Errorf("profile for %s with pin %s, serving at %s", profile.URL, profile.CAPin, up.url)
	}
	setupKey, err := os.ReadFile(filepath.Join(config.DataDir, setupKeyFile))
	if err != nil || !strings.HasPrefix(string(setupKey), "wtk_") {
		t.Errorf("setup key: %v", err)
	}
	for path, mode := range map[string]os.FileMode{
		config.DataDir: 0o700, config.Credentials: 0o600, filepath.Join(config.DataDir, masterKeyFile): 0o600,
		filepath.Join(config.DataDir, setupKeyFile): 0o600, filepath.Join(config.DataDir, databaseFile): 0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode().Perm(), err)
		}
	}

	client, err := sdk.FromProfile(config.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateGroup(t.Context(), api.GroupRequest{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	client.CloseIdleConnections()
	if err := up.stop(); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{profile.Token, strings.TrimSpace(string(setupKey))} {
		if strings.Contains(up.text()+log.String(), secret) {
			t.Error("a secret was printed or logged")
		}
	}

	again := startUp(t, Up, config)
	kept, err := sdk.ReadProfile(config.Credentials)
	if err != nil || kept.Token != profile.Token || kept.CAPin != profile.CAPin {
		t.Errorf("the second start changed the profile: %v", err)
	}
	kept.URL = again.url // a free port was chosen again
	if client, err = sdk.New(sdk.Config{URL: kept.URL, Token: kept.Token, CAPin: kept.CAPin}); err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	names := ""
	for group, err := range client.Groups(t.Context(), sdk.ListGroupsOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		names += group.Name + " "
	}
	if names != "All web " {
		t.Errorf("groups after the restart: %s", names)
	}
}

func TestNewTokenReplacesALostProfile(t *testing.T) {
	config := testConfig(t)
	if err := startUp(t, Up, config).stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(config.Credentials); err != nil {
		t.Fatal(err)
	}
	without := startUp(t, Up, config)
	if err := without.stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(without.text(), "--new-token") {
		t.Errorf("no next step: %s", without.text())
	}
	config.NewToken = true
	with := startUp(t, Up, config)
	profile, err := sdk.ReadProfile(config.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	client, err := sdk.New(sdk.Config{URL: with.url, Token: profile.Token, CAPin: profile.CAPin})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	if user, err := client.GetCurrentUser(t.Context()); err != nil || user.Role != api.CurrentUserRoleOwner {
		t.Errorf("%+v, %v", user, err)
	}
}

func TestSetupEndsAndServeServes(t *testing.T) {
	config := testConfig(t)
	var out bytes.Buffer
	if err := Setup(t.Context(), config, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), config.Credentials) {
		t.Errorf("printed %s", out.String())
	}
	profile, err := sdk.ReadProfile(config.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	server := startUp(t, Serve, config)
	client, err := sdk.New(sdk.Config{URL: server.url, Token: profile.Token, CAPin: profile.CAPin})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	if _, err := client.GetCurrentUser(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPlainHTTPOnLoopbackHasNoPin(t *testing.T) {
	config := testConfig(t)
	config.InsecureHTTP, config.Relay = true, false
	up := startUp(t, Up, config)
	profile, err := sdk.ReadProfile(config.Credentials)
	if err != nil || profile.CAPin != "" || !strings.HasPrefix(up.url, "http://127.0.0.1:") {
		t.Errorf("%s, pin %q, %v", up.url, profile.CAPin, err)
	}
}

func TestServerSpeaksBothVersionsOfHTTP(t *testing.T) {
	config := testConfig(t)
	config.Relay = false
	up := startUp(t, Up, config)
	for _, protocol := range []string{"h2", "http/1.1"} {
		transport := &http.Transport{
			ForceAttemptHTTP2: protocol == "h2",
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}, MinVersion: tls.VersionTLS12},
		}
		response, err := (&http.Client{Transport: transport}).Get(up.url + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		transport.CloseIdleConnections()
		if (response.ProtoMajor == 2) != (protocol == "h2") || response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s, %d", protocol, response.Proto, response.StatusCode)
		}
	}
	old := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", strings.TrimPrefix(up.url, "https://"), old); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 was accepted")
	}
}

// Whatever keeps a server from starting is told in one sentence with the cause
// and the next step.
func TestWhatKeepsAServerFromStarting(t *testing.T) {
	damage := func(name, text string) func(*testing.T, *Config) {
		return func(t *testing.T, c *Config) {
			if err := startUp(t, Up, *c).stop(); err != nil {
				t.Fatal(err)
			}
			for _, beside := range []string{"-wal", "-shm"} {
				_ = os.Remove(filepath.Join(c.DataDir, name+beside))
			}
			if err := os.WriteFile(filepath.Join(c.DataDir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name    string
		prepare func(*testing.T, *Config)
		texts   []string
	}{
		{"port in use", func(t *testing.T, c *Config) {
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = taken.Close() })
			c.Listen = taken.Addr().String()
		}, []string{"in use", "--listen"}},
		{"relay port in use", func(t *testing.T, c *Config) {
			taken, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = taken.Close() })
			c.RelayListen = taken.LocalAddr().String()
		}, []string{"in use", "--relay-listen"}},
		{"port of metrics in use", func(t *testing.T, c *Config) {
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = taken.Close() })
			c.MetricsListen = taken.Addr().String()
		}, []string{"in use", "--metrics-listen"}},
		{"data folder in use", func(t *testing.T, c *Config) { startUp(t, Up, *c) }, []string{"another wattle-server", "stop it"}},
		{"data folder is a file", func(t *testing.T, c *Config) {
			c.DataDir = filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(c.DataDir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"--data-dir"}},
		{"wrong master key", damage(masterKeyFile, otherMasterKey(t)), []string{"master key", masterKeyFile}},
		{"damaged master key", damage(masterKeyFile, "garbage"), []string{masterKeyFile}},
		{"missing master key", func(t *testing.T, c *Config) {
			damage(masterKeyFile, "")(t, c)
			if err := os.Remove(filepath.Join(c.DataDir, masterKeyFile)); err != nil {
				t.Fatal(err)
			}
		}, []string{"missing", "backup"}},
		{"corrupt database", damage(databaseFile, strings.Repeat("no database ", 1000)), []string{databaseFile, "backup"}},
		{"newer schema", func(t *testing.T, c *Config) {
			if err := startUp(t, Up, *c).stop(); err != nil {
				t.Fatal(err)
			}
			database, err := sql.Open("sqlite3", filepath.Join(c.DataDir, databaseFile))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = database.Close() }()
			if _, err := database.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999999, 1)"); err != nil {
				t.Fatal(err)
			}
		}, []string{"schema version 999999", "newer program"}},
		{"broken authority", damage("ca.key", "garbage"), []string{"authority", "backup"}},
		{"certificate that is none", func(t *testing.T, c *Config) {
			c.TLSCert, c.TLSKey = filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")
		}, []string{"certificate"}},
		{"profile that cannot be written", func(t *testing.T, c *Config) {
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			c.Credentials = filepath.Join(file, "credentials")
		}, []string{"--credentials"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := testConfig(t)
			test.prepare(t, &config)
			var out bytes.Buffer
			err := Up(t.Context(), config, &out)
			if err == nil || program.Code(err) != program.ExitFailed {
				t.Fatalf("code %d: %v", program.Code(err), err)
			}
			for _, text := range test.texts {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q lacks %q", err, text)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if out.Len() > 0 {
				t.Errorf("printed %q", out.String())
			}
		})
	}
}

// otherMasterKey is the text of the key of another installation.
func otherMasterKey(t *testing.T) string {
	t.Helper()
	config := testConfig(t)
	config.Relay = false
	var out bytes.Buffer
	if err := Setup(t.Context(), config, &out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(config.DataDir, masterKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

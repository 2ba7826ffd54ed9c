package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// program builds the provider once for all tests that run it as a program.
var program = sync.OnceValues(func() (folder string, err error) {
	if folder, err = os.MkdirTemp("", "provider"); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", folder+"/terraform-provider-wattle", ".").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return folder, err
})

func TestMain(m *testing.M) {
	if name := standInName(); name != "" {
		if err := serveStandIn(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if built {
		if folder, err := program(); err == nil {
			_ = os.RemoveAll(folder)
		}
	}
	os.Exit(code)
}

var built bool // whether program was called by a test

// command is a folder in which Terraform runs with the provider as a program.
type command struct {
	folder  string
	environ []string
	path    string
}

func newCommand(t *testing.T, plane *controlplanetest.Server, url string) *command {
	t.Helper()
	binary := os.Getenv("TF_ACC_TERRAFORM_PATH")
	if binary == "" {
		var err error
		if binary, err = exec.LookPath("terraform"); err != nil {
			t.Skip("SKIPPED: no terraform on the path and TF_ACC_TERRAFORM_PATH is not set")
		}
	}
	built = true
	folder, err := program()
	if err != nil {
		t.Fatal(err)
	}
	c := &command{folder: t.TempDir(), path: binary}
	config := filepath.Join(t.TempDir(), "terraform.rc")
	if err := os.WriteFile(config, fmt.Appendf(nil, "provider_installation {\n  dev_overrides {\n    \"wattlenet/wattle\" = %q\n  }\n}\n", folder), 0o600); err != nil {
		t.Fatal(err)
	}
	profile := filepath.Join(t.TempDir(), "credentials")
	if err := (sdk.Profile{URL: url, Token: plane.Token}).Write(profile); err != nil {
		t.Fatal(err)
	}
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "TF_") && !strings.HasPrefix(pair, "WATTLE_") {
			c.environ = append(c.environ, pair)
		}
	}
	c.environ = append(c.environ, "TF_CLI_CONFIG_FILE="+config, "WATTLE_CREDENTIALS="+profile, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1")
	return c
}

// run returns what Terraform says; a status that is not among those allowed
// fails the test.
func (c *command) run(t *testing.T, allowed int, arguments ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.path, append([]string{"-chdir=" + c.folder}, arguments...)...)
	cmd.Env = c.environ
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != allowed {
		t.Fatalf("terraform %s: %v, want status %d\n%s", strings.Join(arguments, " "), err, allowed, out)
	}
	return string(out)
}

const secretsConfig = `
terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}
resource "wattle_setup_key" "hidden" {
  name = "hidden"
}
resource "wattle_setup_key" "shown" {
  name         = "shown"
  key_in_state = true
}
ephemeral "wattle_setup_key" "short" {
  name = "short"
}
data "wattle_users" "all" {}
resource "wattle_token" "hidden" {
  user_id    = data.wattle_users.all.users[0].id
  name       = "hidden"
  expires_in = 1
}
locals {
  used = ephemeral.wattle_setup_key.short.key
}
`

// secret is what setup keys and tokens look like.
var secret = regexp.MustCompile(`wt[kp]_[A-Za-z0-9]{8,}`)

// TestSecretsStayOut: of all secrets that the server made, the state holds the
// one that was asked for, and plan file and logs of the finest level hold none,
// nor the provider's own token.
func TestSecretsStayOut(t *testing.T) {
	plane := controlplanetest.New(t)
	gate := newGate(t, plane)
	made := &answers{}
	gate.set(made.keep(plane))
	c := newCommand(t, plane, gate.URL)
	log := filepath.Join(t.TempDir(), "log")
	c.environ = append(c.environ, "TF_LOG=TRACE", "TF_LOG_PATH="+log)
	if err := os.WriteFile(filepath.Join(c.folder, "main.tf"), []byte(secretsConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	out := c.run(t, 0, "plan", "-out=plan", "-input=false")
	out += c.run(t, 0, "apply", "-input=false", "plan")
	secrets := made.secrets()
	if len(secrets) != 5 { // two ephemeral ones: one for the plan, one for the apply
		t.Fatalf("the server made %d secrets, want 5", len(secrets))
	}
	secrets["provider"] = plane.Token
	places := map[string]string{"output": out, "log": content(t, log), "plan file": unzipped(t, filepath.Join(c.folder, "plan")), "state": content(t, filepath.Join(c.folder, "terraform.tfstate"))}
	if !strings.Contains(places["log"], "[TRACE]") || !strings.Contains(places["plan file"], "hidden") || !strings.Contains(places["state"], "hidden") {
		t.Fatal("log, plan file or state are not what was looked for")
	}
	shown := 0
	for name, value := range secrets {
		for place, text := range places {
			switch found := strings.Contains(text, value); {
			case found && place == "state" && strings.HasPrefix(name, "shown"):
				shown++
			case found:
				t.Errorf("the secret %s stands in the %s", name, place)
			}
		}
	}
	if shown != 1 {
		t.Errorf("the state holds %d secrets that were asked for, want 1", shown)
	}
	for _, stray := range secret.FindAllString(places["log"]+places["plan file"]+out, -1) {
		t.Errorf("a secret that the server did not make stands in log, plan file or output: %.6s...", stray)
	}
}

// answers keeps the secrets in the answers of creates.
type answers struct {
	mu   sync.Mutex // guards made
	made map[string]string
}

func (a *answers) secrets() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.made
}

// keep passes creates on by itself to see what they answer.
func (a *answers) keep(plane *controlplanetest.Server) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		req, err := http.NewRequestWithContext(r.Context(), r.Method, plane.URL+r.URL.RequestURI(), r.Body)
		if err != nil {
			return false
		}
		req.Header = r.Header.Clone()
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return false
		}
		var key api.SetupKey
		var token api.TokenCreated
		a.mu.Lock()
		if a.made == nil {
			a.made = map[string]string{}
		}
		if strings.HasPrefix(r.URL.Path, "/api/setup-keys") && json.Unmarshal(body, &key) == nil {
			a.made[fmt.Sprintf("%s key %d", key.Name, len(a.made))] = key.Key
		} else if json.Unmarshal(body, &token) == nil {
			a.made[fmt.Sprintf("token %d", len(a.made))] = token.PlainToken
		}
		a.mu.Unlock()
		for name := range res.Header {
			w.Header().Set(name, res.Header.Get(name))
		}
		w.WriteHeader(res.StatusCode)
		_, _ = w.Write(body)
		return true
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// unzipped is all files of an archive, one behind the other.
func unzipped(t *testing.T, path string) string {
	t.Helper()
	archive, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = archive.Close() }()
	var all bytes.Buffer
	for _, file := range archive.File {
		r, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&all, r); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

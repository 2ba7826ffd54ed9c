//go:build linux

package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wattlenet/wattle/acceptance/lab"
)

// command is what testscript calls for a command of ours.
type command = func(ts *testscript.TestScript, neg bool, args []string)

func TestStories(t *testing.T) { runStories(t, "testdata/stories") }

// runStories runs every script of a folder.
func runStories(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		Setup:               setup,
		Condition:           condition,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]command{
			"host": with(host), "router": with(router), "gateway": with(gateway), "shape": with(shape), "forget": with(forget), "access": with(access), "wan": with(wan), "block": with(block), "unblock": with(unblock), "rebind": with(rebind), "cut": with(cut), "mend": with(mend),
			"serve": with(serve), "daemon": with(daemon), "join": with(join),
			"on": with(on), "start": with(start), "end": with(end), "crash": with(crash), "restart": with(restart),
			"freeze": with(freeze), "thaw": with(thaw),
			"exits": with(exits), "eventually": with(eventually),
			"api": with(api), "field": with(field), "flow": with(flowCommand),
			"nameserver": with(nameserverCommand), "asked": with(asked), "places": with(places),
		},
	})
}

// A story is what one script has built so far. Scripts run one command at a
// time, so nothing here is locked.
type story struct {
	t         testing.TB
	lab       *lab.Lab
	networks  map[string]lab.Network // what access and wan made
	work      string                 // the script's folder
	sockets   string                 // a folder with a short name: socket paths are limited
	processes map[string]*process
	flows     map[string]*flow
	names     map[string]*nameserver // by host
	profile   profile
	server    string    // the host that serves
	changed   time.Time // when the last command that could change something ended
}

type storyKey struct{}

// with hands the story to a command.
func with(f func(s *story, ts *testscript.TestScript, neg bool, args []string)) command {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		f(ts.Value(storyKey{}).(*story), ts, neg, args)
	}
}

// usage ends the story unless ok.
func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

// positive ends the story when a command that cannot be negated is.
func positive(ts *testscript.TestScript, neg bool) {
	if neg {
		ts.Fatalf("this command cannot be negated")
	}
}

func setup(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return errors.New("testscript runs without a testing.TB")
	}
	s := &story{
		t:         t,
		lab:       lab.New(t),
		networks:  make(map[string]lab.Network),
		work:      env.WorkDir,
		processes: make(map[string]*process),
		flows:     make(map[string]*flow),
		names:     make(map[string]*nameserver),
	}
	var err error
	if s.sockets, err = os.MkdirTemp("/run", "s"); err != nil {
		return err
	}
	env.Values[storyKey{}] = s
	env.Defer(func() { s.end(t) })
	return s.environment(env)
}

// environment points Terraform at the provider that was built, and away from
// everything outside the lab.
func (s *story) environment(env *testscript.Env) error {
	bin := os.Getenv(binVariable)
	config := filepath.Join(s.work, ".terraformrc")
	text := fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"wattlenet/wattle\" = %q\n  }\n  direct {}\n}\n", bin)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	examples, err := filepath.Abs("../examples")
	if err != nil {
		return err
	}
	env.Setenv("EXAMPLES", examples)
	tools := filepath.Join(s.work, ".bin")
	if err := os.Mkdir(tools, 0o700); err != nil {
		return err
	}
	if terraform != "" { // scripts say terraform for OpenTofu as well
		if err := os.Symlink(terraform, filepath.Join(tools, "terraform")); err != nil {
			return err
		}
	}
	env.Setenv("PATH", strings.Join([]string{bin, tools, os.Getenv("PATH")}, string(os.PathListSeparator)))
	env.Setenv("HOME", s.work)
	env.Setenv("TF_CLI_CONFIG_FILE", config)
	env.Setenv("TF_IN_AUTOMATION", "1")
	env.Setenv("TF_INPUT", "0")
	env.Setenv("CHECKPOINT_DISABLE", "1")
	env.Setenv("NO_COLOR", "1")
	env.Setenv("TF_CLI_ARGS", "-no-color")
	return nil
}

// end stops what the script started and shows the logs of a failed story.
func (s *story) end(t testing.TB) {
	for _, f := range s.flows {
		f.stop()
	}
	for _, n := range s.names {
		n.stop(t)
	}
	for name, p := range s.processes {
		p.end()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.tail())
		}
	}
	if err := os.RemoveAll(s.sockets); err != nil {
		t.Error(err)
	}
}

func condition(name string) (bool, error) {
	switch name {
	case "terraform":
		if terraform == "" {
			lab.Count("stories need Terraform 1.11 or OpenTofu 1.11")
		}
		return terraform != "", nil
	case "coturn":
		return installed("coturn", "turnserver"), nil
	case "shells":
		return installed("zsh", "zsh") && installed("fish", "fish"), nil
	default:
		return false, fmt.Errorf("unknown condition %q", name)
	}
}

// installed reports whether there is a program, and counts a story that has to do without.
func installed(pack, program string) bool {
	_, err := exec.LookPath(program)
	if err != nil {
		lab.Count("stories need " + pack + " (apt-get install --no-install-recommends " + pack + ")")
	}
	return err == nil
}

// find returns a host by name or ends the story.
func (s *story) find(ts *testscript.TestScript, name string) *lab.Host {
	h, ok := s.lab.Find(name)
	if !ok {
		ts.Fatalf("no host is named %s", name)
	}
	return h
}

// command makes a command on a host, with the environment of the script and
// the host's own daemon in it.
func (s *story) command(ctx context.Context, ts *testscript.TestScript, h *lab.Host, args []string) *exec.Cmd {
	c := h.Command(ctx, args[0], args[1:]...)
	c.Dir = ts.MkAbs(".")
	for _, name := range []string{
		"PATH", "HOME", "TF_CLI_CONFIG_FILE", "TF_IN_AUTOMATION", "TF_INPUT", "CHECKPOINT_DISABLE", "NO_COLOR",
		"TF_CLI_ARGS", "WATTLE_CREDENTIALS", "TMPDIR", "WORK",
	} {
		if value := ts.Getenv(name); value != "" {
			c.Env = append(c.Env, name+"="+value)
		}
	}
	for _, variable := range os.Environ() {
		if strings.HasPrefix(variable, "GOCOVERDIR=") {
			c.Env = append(c.Env, variable)
		}
	}
	c.Env = append(c.Env, "WATTLE_SOCKET="+filepath.Join(s.sockets, h.Name), "WATTLE_STATE_DIR="+filepath.Join(s.work, h.Name, "state"))
	// The settings of the machine that runs the story stay as they are.
	c.Env = append(c.Env, "WATTLE_SETTINGS="+filepath.Join(s.work, h.Name, "settings.json"))
	return c
}

// A profile is what wattle-server up writes for its clients.
type profile struct {
	URL   string `json:"url"`
	Token string `json:"token"`
	Pin   string `json:"ca_pin"`
}

func readProfile(path string) (profile, error) {
	var p profile
	text, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

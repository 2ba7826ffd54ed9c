package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
	"github.com/wattlenet/wattle/generated/terraform"
)

// TestExamples runs every configuration below examples: applied, planned
// empty, imported, planned empty, destroyed.
func TestExamples(t *testing.T) {
	folders, err := filepath.Glob("../examples/*/main.tf")
	if err != nil || len(folders) == 0 {
		t.Fatalf("%d examples, %v", len(folders), err)
	}
	for _, file := range folders {
		folder := filepath.Dir(file)
		t.Run(filepath.Base(folder), func(t *testing.T) { applyExample(t, folder) })
	}
}

func applyExample(t *testing.T, folder string) {
	plane := controlplanetest.New(t)
	machine := controlplanetest.NewMachine(t, plane)
	c := newCommand(t, plane, plane.URL)
	if err := os.CopyFS(c.folder, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	c.standIns(t)
	// A backend would need init, which asks a registry for the provider.
	edit(t, filepath.Join(c.folder, "main.tf"), regexp.MustCompile(`(?m)^  backend "http" \{\}$`), "")
	variables := []string{"-input=false"}
	if _, err := os.Stat(filepath.Join(c.folder, "example.tfvars")); err == nil {
		variables = append(variables, "-var-file=example.tfvars")
	}
	c.environ = append(c.environ, "TF_VAR_peer_id="+machine.PeerID)
	do := func(status int, arguments ...string) string {
		return c.run(t, status, slices.Concat(arguments[:1], variables, arguments[1:])...)
	}
	c.run(t, 0, "get")
	do(0, "apply", "-auto-approve")
	do(0, "plan", "-detailed-exitcode")
	if forgotten, imports := importable(t, c); len(forgotten) > 0 {
		c.run(t, 0, append([]string{"state", "rm"}, forgotten...)...)
		if err := os.WriteFile(filepath.Join(c.folder, "imports.tf"), []byte(imports), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := do(0, "apply", "-auto-approve"); !strings.Contains(out, fmt.Sprintf("%d imported, 0 added, 0 changed, 0 destroyed", len(forgotten))) {
			t.Errorf("%d objects were to be imported as they are\n%s", len(forgotten), out)
		}
		do(0, "plan", "-detailed-exitcode")
	}
	do(0, "destroy", "-auto-approve")
	if left := c.run(t, 0, "state", "list"); left != "" {
		t.Errorf("the state still holds\n%s", left)
	}
}

// importable lists the addresses of what can be imported, and the blocks that
// import it. A secret that only its creation shows cannot; an example of functions
// has no objects.
func importable(t *testing.T, c *command) (addresses []string, blocks string) {
	var state struct {
		Values struct {
			Root module `json:"root_module"`
		} `json:"values"`
	}
	if err := json.Unmarshal([]byte(c.run(t, 0, "show", "-json")), &state); err != nil {
		t.Fatal(err)
	}
	objects := 0
	for r := range state.Values.Root.all {
		name, ours := strings.CutPrefix(r.Type, "wattle_")
		at := slices.IndexFunc(terraform.Nouns, func(n *terraform.Noun) bool { return n.Name == name })
		if !ours || at < 0 || r.Mode != "managed" {
			continue
		}
		objects++
		if shown(r.Values) {
			continue
		}
		if sent(r.Values) {
			continue // the import cannot know which secret the server has, so it is sent again
		}
		n := terraform.Nouns[at]
		if len(n.OptIn) > 0 && n.Key == "" {
			continue // an import manages no setting, so what is set is a change
		}
		id := "settings" // a singleton takes any
		if n.Key != "" {
			var parts []string
			for _, attribute := range append(slices.Clone(n.Parents), n.Key) {
				parts = append(parts, fmt.Sprint(r.Values[attribute]))
			}
			id = strings.Join(parts, "/")
		}
		addresses = append(addresses, r.Address)
		blocks += fmt.Sprintf("import {\n  to = %s\n  id = %q\n}\n", r.Address, id)
	}
	if len(addresses) == 0 && objects > 0 {
		t.Fatal("the example has nothing to import")
	}
	return addresses, blocks
}

// shown reports whether the secret of an object stands in the state.
func shown(values map[string]any) bool {
	for name, value := range values {
		if strings.HasSuffix(name, "_in_state") && value == true {
			return true
		}
	}
	return false
}

// sent reports whether an object was given a write-only value.
func sent(values map[string]any) bool {
	for name, value := range values {
		if strings.HasSuffix(name, "_wo_version") && value != nil {
			return true
		}
	}
	return false
}

// A module is part of what terraform show tells.
type module struct {
	Resources []stateResource `json:"resources"`
	Children  []module        `json:"child_modules"`
}

type stateResource struct {
	Address, Mode, Type string
	Values              map[string]any
}

func (m module) all(yield func(stateResource) bool) {
	for _, r := range m.Resources {
		if !yield(r) {
			return
		}
	}
	for _, child := range m.Children {
		child.all(yield)
	}
}

// required finds the providers of a configuration and where they come from.
var required = regexp.MustCompile(`(?m)^    (\w+) = \{\n      source = "([\w-]+/[\w-]+)"`)

// standIns serves the providers of the configuration that are not ours.
func (c *command) standIns(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(c.folder, "main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	overrides := ""
	for _, m := range required.FindAllStringSubmatch(string(source), -1) {
		if m[1] == "wattle" {
			continue
		}
		folder := t.TempDir()
		if err := os.Symlink(self, filepath.Join(folder, "terraform-provider-"+m[1])); err != nil {
			t.Fatal(err)
		}
		overrides += fmt.Sprintf("    %q = %q\n", m[2], folder)
	}
	c.environ = append(c.environ, standInFolder+"="+c.folder)
	for _, pair := range c.environ {
		if config, found := strings.CutPrefix(pair, "TF_CLI_CONFIG_FILE="); found {
			edit(t, config, regexp.MustCompile(`dev_overrides \{\n`), "$0"+overrides)
		}
	}
}

func edit(t *testing.T, file string, pattern *regexp.Regexp, replacement string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pattern.ReplaceAll(text, []byte(replacement)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWorkflowIsYAML: nobody runs the workflow here, but it can be read, and
// names what the configuration has.
func TestWorkflowIsYAML(t *testing.T) {
	text, err := os.ReadFile("../examples/github-actions/.github/workflows/network.yml")
	if err != nil {
		t.Fatal(err)
	}
	var workflow struct {
		Env  map[string]string
		Jobs map[string]struct {
			Steps []map[string]any
		}
	}
	if err := yaml.Unmarshal(text, &workflow); err != nil {
		t.Fatal(err)
	}
	for _, job := range []string{"plan", "apply", "deploy"} {
		if len(workflow.Jobs[job].Steps) < 4 {
			t.Errorf("job %s has %d steps", job, len(workflow.Jobs[job].Steps))
		}
	}
	for _, name := range []string{"WATTLE_URL", "WATTLE_TOKEN", "WATTLE_CA_PIN", "TF_HTTP_ADDRESS"} {
		if workflow.Env[name] == "" {
			t.Errorf("%s is not set", name)
		}
	}
}

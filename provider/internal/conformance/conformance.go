// Package conformance runs the cases that were generated from the contract
// through Terraform against a control plane.
package conformance

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"

	"github.com/wattlenet/wattle/generated/terraform"
	"github.com/wattlenet/wattle/provider/internal/runtime"
)

// Server is the control plane under test.
type Server struct {
	URL, Token string
	// Existing has ids of objects that Terraform cannot make, by noun, at
	// least two each. Cases that need others are skipped. With one more than
	// the noun has attributes, they are tried side by side.
	Existing map[string][]string
	// OneWay names attributes, as noun.attribute, that cannot be set back.
	OneWay []string
	// Separate says that each noun has a server of its own, below its name.
	Separate bool
	// Values replaces the values of attributes, as noun.attribute, that only
	// the server can know, such as an address inside its own range.
	Values map[string][]string
}

// Run tries every noun, side by side, each on the server that start returns
// for it; needs are the nouns of which it must have two objects.
func Run(t *testing.T, start func(t *testing.T, needs []string) Server) {
	t.Helper()
	useTerraform(t)
	for _, c := range terraform.Cases {
		t.Run(c.Noun, func(t *testing.T) {
			t.Parallel()
			try(t, c, start(t, c.Needs))
		})
	}
}

// RunOn tries every noun on one server, side by side where they are separate.
func RunOn(t *testing.T, server Server) {
	t.Helper()
	useTerraform(t)
	for _, c := range terraform.Cases {
		t.Run(c.Noun, func(t *testing.T) {
			own := server
			if server.Separate {
				t.Parallel()
				own.URL += "/" + c.Noun
			}
			try(t, c, own)
		})
	}
}

func try(t *testing.T, c terraform.Case, server Server) {
	t.Helper()
	s := subject{Case: c, server: server, proxy: newProxy(t, server.URL)}
	s.Attributes = slices.Clone(c.Attributes)
	for i, a := range s.Attributes {
		if values := server.Values[c.Noun+"."+a.Name]; values != nil {
			s.Attributes[i].Values = values
		}
	}
	for _, need := range c.Needs {
		if len(s.server.Existing[need]) < 2 {
			s.missing = append(s.missing, need)
		}
	}
	s.run(t)
}

// useTerraform names the Terraform binary, so that none is downloaded.
func useTerraform(t *testing.T) {
	t.Helper()
	if os.Getenv("TF_ACC_TERRAFORM_PATH") == "" {
		binary, err := exec.LookPath("terraform")
		if err != nil {
			t.Skip("SKIPPED: no terraform on the path and TF_ACC_TERRAFORM_PATH is not set")
		}
		t.Setenv("TF_ACC_TERRAFORM_PATH", binary)
	}
	t.Setenv("CHECKPOINT_DISABLE", "1")
	if file := os.Getenv("TF_CLI_CONFIG_FILE"); file != "" {
		if _, err := os.Stat(file); err != nil { //nolint:gosec // G703: a test asks about its own environment
			t.Setenv("TF_CLI_CONFIG_FILE", os.DevNull)
		}
	}
	t.Setenv("WATTLE_CREDENTIALS", t.TempDir()+"/none")
	for _, name := range []string{"WATTLE_URL", "WATTLE_TOKEN", "WATTLE_ACCOUNT", "WATTLE_CA_PIN"} {
		t.Setenv(name, "")
	}
}

// openTofu reports that OpenTofu stands in for Terraform.
func openTofu() bool {
	return strings.Contains(filepath.Base(os.Getenv("TF_ACC_TERRAFORM_PATH")), "tofu")
}

// subject is one case on one server.
type subject struct {
	terraform.Case
	server  Server
	proxy   *proxy
	missing []string // nouns of which the server has too few objects
}

func (s *subject) run(t *testing.T) {
	if !s.usable(s.minimal()) {
		t.Skipf("SKIPPED: needs two existing objects of %s", strings.Join(s.missing, ", "))
	}
	t.Run("life", s.testLife)
	t.Run("each attribute", s.testAttributes)
	t.Run("invalid values", s.testInvalid)
	t.Run("secrets", s.testSecrets)
	t.Run("refusals of the server", s.testRefusals)
	if s.Kind == terraform.Collection {
		t.Run("many", s.testMany)
	}
}

func (s *subject) test(t *testing.T, steps ...resource.TestStep) {
	t.Helper()
	resource.Test(t, testCase(steps...))
}

func testCase(steps ...resource.TestStep) resource.TestCase {
	return resource.TestCase{
		IsUnitTest: true,
		ProtoV6ProviderFactories: map[string]func() (tfprotov6.ProviderServer, error){
			terraform.ProviderName: func() (tfprotov6.ProviderServer, error) { return runtime.NewServer("test")(), nil },
		},
		Steps: steps,
	}
}

// usable reports whether the values refer only to what the server has.
func (s *subject) usable(values map[string]string) bool {
	for _, v := range values {
		for _, need := range s.missing {
			if strings.Contains(v, "{{"+need+":") {
				return false
			}
		}
	}
	for _, need := range s.missing {
		if strings.Contains(s.Setup, "{{"+need+":") {
			return false
		}
	}
	return true
}

var placeholder = regexp.MustCompile(`\{\{(\w+):(\d+)\}\}`)

// config is a whole Terraform configuration with the noun's resource "it",
// unless values is nil, and more text behind.
func (s *subject) config(values map[string]string, more ...string) string {
	if values == nil {
		return s.configs(nil, more...)
	}
	return s.configs([]instance{{"it", values}}, more...)
}

// instance is one object of the noun under its name in the configuration.
type instance struct {
	label  string
	values map[string]string
}

func (s *subject) configs(list []instance, more ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "provider %q {\n  url = %q\n  token = %q\n}\n\n%s\n", terraform.ProviderName, s.proxy.URL, s.server.Token, s.Setup)
	for _, x := range list {
		fmt.Fprintf(&b, "resource %q %q {\n", s.Type, x.label)
		for _, name := range slices.Sorted(maps.Keys(x.values)) {
			fmt.Fprintf(&b, "  %s = %s\n", name, x.values[name])
		}
		b.WriteString("}\n")
	}
	b.WriteString(strings.Join(more, "\n"))
	return placeholder.ReplaceAllStringFunc(b.String(), func(m string) string {
		parts := placeholder.FindStringSubmatch(m)
		ids := s.server.Existing[parts[1]]
		if i, err := strconv.Atoi(parts[2]); err == nil && i <= len(ids) && len(ids) >= 2 {
			return ids[i-1]
		}
		return "missing"
	})
}

// minimal is what must be set and nothing else.
func (s *subject) minimal() map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes {
		if a.Required {
			out[a.Name] = a.Values[0]
		}
	}
	return out
}

// full is every attribute that goes together, with values that are no defaults.
func (s *subject) full() map[string]string {
	out := s.minimal()
	for _, a := range s.Attributes {
		if a.Synthetic || a.WriteOnly || len(a.Values) == 0 || s.oneWay(a.Name) {
			continue
		}
		if slices.ContainsFunc(a.Excludes, func(name string) bool { return out[name] != "" }) {
			continue
		}
		value := a.Values[0]
		if !a.Immutable && !slices.Contains(s.Parents, a.Name) {
			value = a.Values[min(1, len(a.Values)-1)]
		}
		if s.usable(map[string]string{a.Name: value}) {
			out[a.Name] = value
		}
	}
	return out
}

func (s *subject) oneWay(name string) bool {
	return slices.Contains(s.server.OneWay, s.Noun+"."+name)
}

func (s *subject) address() string { return s.Type + ".it" }

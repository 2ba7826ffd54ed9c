// Package conformance runs the cases that were generated from the contract
// through Terraform against a control plane.
package conformance

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/wattlenet/wattle/generated/terraform"
	"github.com/wattlenet/wattle/provider/internal/runtime"
)

// Server is the control plane under test.
type Server struct {
	URL, Token string
	// Existing has ids of objects that Terraform cannot make, by noun, at
	// least two each. Cases that need others are skipped.
	Existing map[string][]string
	// OneWay names attributes, as noun.attribute, that cannot be set back.
	OneWay []string
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

// RunOn tries one noun after the other on one server.
func RunOn(t *testing.T, server Server) {
	t.Helper()
	useTerraform(t)
	for _, c := range terraform.Cases {
		t.Run(c.Noun, func(t *testing.T) { try(t, c, server) })
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
	t.Run("minimal and import", s.testMinimal)
	t.Run("full and back", s.testFull)
	t.Run("each attribute", s.testAttributes)
	t.Run("invalid values", s.testInvalid)
	t.Run("data sources", s.testData)
	t.Run("secrets", s.testSecrets)
	if s.Kind == terraform.Collection {
		t.Run("gone", s.testGone)
		t.Run("many", s.testMany)
	}
}

func (s *subject) test(t *testing.T, steps ...resource.TestStep) {
	t.Helper()
	resource.Test(t, resource.TestCase{
		IsUnitTest: true,
		ProtoV6ProviderFactories: map[string]func() (tfprotov6.ProviderServer, error){
			terraform.ProviderName: providerserver.NewProtocol6WithError(runtime.New("test")()),
		},
		Steps: steps,
	})
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

var placeholder = regexp.MustCompile(`\{\{(\w+):(\d)\}\}`)

// config is a whole Terraform configuration with the noun's resource "it" and
// more text behind.
func (s *subject) config(values map[string]string, more ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "provider %q {\n  url = %q\n  token = %q\n}\n\n%s\n", terraform.ProviderName, s.proxy.URL, s.server.Token, s.Setup)
	if values != nil {
		fmt.Fprintf(&b, "resource %q \"it\" {\n", s.Type)
		for _, name := range slices.Sorted(maps.Keys(values)) {
			fmt.Fprintf(&b, "  %s = %s\n", name, values[name])
		}
		b.WriteString("}\n")
	}
	b.WriteString(strings.Join(more, "\n"))
	return placeholder.ReplaceAllStringFunc(b.String(), func(m string) string {
		parts := placeholder.FindStringSubmatch(m)
		ids := s.server.Existing[parts[1]]
		if len(ids) < 2 {
			return "missing"
		}
		return ids[parts[2][0]-'1']
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

// testMinimal: create, plan nothing, import by id and by every field that
// looks the object up.
func (s *subject) testMinimal(t *testing.T) {
	steps := []resource.TestStep{{Config: s.config(s.minimal())}}
	if s.Key != "" {
		steps = append(steps, s.importStep(s.Key))
		for _, field := range s.Lookup {
			if s.minimal()[field] != "" {
				steps = append(steps, s.importStep(field))
			}
		}
	}
	s.test(t, steps...)
}

// testFull: everything set, then nothing but what must be.
func (s *subject) testFull(t *testing.T) {
	back := resource.TestStep{Config: s.config(s.minimal())}
	s.test(t, resource.TestStep{Config: s.config(s.full())}, back)
	if s.Kind != terraform.Collection {
		return
	}
	// What changed behind Terraform's back is repaired in place: the last
	// replacement of the object is sent once more with older content.
	var replay func()
	s.test(t,
		resource.TestStep{Config: s.config(s.changed(0))},
		resource.TestStep{Config: s.config(s.changed(1))},
		resource.TestStep{
			PreConfig: func() { replay = s.proxy.lastPut() },
			Config:    s.config(s.changed(0)),
		},
		resource.TestStep{
			PreConfig: func() {
				if replay != nil {
					replay()
				}
			},
			Config: s.config(s.changed(0)),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				expectRepair(s.address(), func() bool { return replay != nil }),
			}},
		},
	)
}

// changed is the minimal object with one attribute that can change in place
// at one of its values.
func (s *subject) changed(i int) map[string]string {
	out := s.minimal()
	for _, a := range s.Attributes {
		if a.Immutable || a.Synthetic || a.WriteOnly || a.OptIn || len(a.Values) < 2 || len(a.Excludes) > 0 || !s.usable(map[string]string{a.Name: a.Values[0] + a.Values[1]}) {
			continue
		}
		out[a.Name] = a.Values[i]
		return out
	}
	return out
}

// testAttributes: each attribute alone is set, put to its default, and unset.
// An immutable one plans a replacement, any other does not.
func (s *subject) testAttributes(t *testing.T) {
	base := s.minimal()
	steps := []resource.TestStep{{Config: s.config(base)}}
	for _, a := range s.Attributes {
		if s.oneWay(a.Name) || len(a.Values) == 0 || len(a.Excludes) > 0 || a.Required && len(a.Values) < 2 {
			continue
		}
		with := maps.Clone(base)
		with[a.Name] = a.Values[0]
		if a.Required {
			with[a.Name] = a.Values[1]
		}
		if !s.usable(with) || s.config(with) == s.config(base) {
			continue
		}
		steps = append(steps, resource.TestStep{Config: s.config(with), ConfigPlanChecks: s.expect(a)})
		if a.Default != "" {
			explicit := maps.Clone(base)
			explicit[a.Name] = a.Default
			steps = append(steps, resource.TestStep{Config: s.config(explicit)})
		}
		steps = append(steps, resource.TestStep{Config: s.config(base)})
	}
	s.test(t, steps...)
}

func (s *subject) expect(a terraform.Trial) resource.ConfigPlanChecks {
	if a.WriteOnly || a.Chosen {
		return resource.ConfigPlanChecks{}
	}
	action := plancheck.ResourceActionUpdate
	if a.Immutable {
		action = plancheck.ResourceActionReplace
	}
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(s.address(), action)}}
}

// testInvalid: what the contract refuses is refused at plan time.
func (s *subject) testInvalid(t *testing.T) {
	var steps []resource.TestStep
	for _, a := range s.Attributes {
		for _, wrong := range a.Invalid {
			with := s.minimal()
			with[a.Name] = wrong
			for _, other := range a.Excludes {
				delete(with, other)
			}
			steps = append(steps, resource.TestStep{Config: s.config(with), PlanOnly: true, ExpectError: regexp.MustCompile(a.Name)})
		}
		if len(a.Excludes) > 0 {
			both := s.minimal()
			for _, b := range s.Attributes {
				if b.Name == a.Name || slices.Contains(a.Excludes, b.Name) {
					both[b.Name] = b.Values[0]
				}
			}
			steps = append(steps, resource.TestStep{Config: s.config(both), PlanOnly: true, ExpectError: regexp.MustCompile("Wrong combination")})
		}
	}
	before := s.proxy.writes()
	if len(steps) > 0 {
		s.test(t, steps...)
	}
	if after := s.proxy.writes(); after != before {
		t.Errorf("%d writes reached the server, want none", after-before)
	}
}

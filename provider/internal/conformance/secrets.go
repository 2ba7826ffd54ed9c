package conformance

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	tfstate "github.com/hashicorp/terraform-plugin-testing/terraform"

	"github.com/wattlenet/wattle/generated/terraform"
)

// testSecrets: a secret enters the state only through its switch, a
// write-only value never does and is sent again only with a new version, and
// the ephemeral form removes what it made.
func (s *subject) testSecrets(t *testing.T) {
	for _, a := range s.Attributes {
		if name, ok := strings.CutSuffix(a.Name, "_in_state"); ok && a.Synthetic {
			s.testSwitch(t, name, a.Name)
			if s.ephemeral() {
				s.testEphemeral(t, name)
			}
		}
		if a.WriteOnly {
			s.testWriteOnly(t, a)
		}
	}
}

func (s *subject) testSwitch(t *testing.T, secret, name string) {
	with := s.minimal()
	with[name] = "true"
	var made string
	s.test(t,
		resource.TestStep{Config: s.config(with), Check: resource.TestCheckResourceAttrWith(s.address(), secret, func(v string) error {
			made = v
			if len(v) < 8 || strings.Contains(v, "*") {
				return fmt.Errorf("%s is %d characters, want the whole secret", secret, len(v))
			}
			return nil
		})},
		// A refresh does not lose it, nor replace it by what a read shows.
		resource.TestStep{RefreshState: true, Check: func(state *tfstate.State) error {
			return resource.TestCheckResourceAttr(s.address(), secret, made)(state)
		}},
	)
}

// ephemeral reports whether the noun exists for one run, too.
func (s *subject) ephemeral() bool {
	return slices.ContainsFunc(terraform.Nouns, func(n *terraform.Noun) bool { return n.Name == s.Noun && n.EphemeralSchema != nil })
}

func (s *subject) testEphemeral(t *testing.T, secret string) {
	values := s.minimal()
	var b strings.Builder
	fmt.Fprintf(&b, "ephemeral %q \"it\" {\n", s.Type)
	for name, v := range values {
		if !strings.HasSuffix(name, "_in_state") {
			fmt.Fprintf(&b, "  %s = %s\n", name, v)
		}
	}
	fmt.Fprintf(&b, "}\nlocals {\n  used = ephemeral.%s.it.%s\n}\n", s.Type, secret)
	before := s.proxy.count()
	// OpenTofu counts an ephemeral resource that it opens as a part of the plan.
	s.test(t, resource.TestStep{Config: s.config(nil, b.String()), ExpectNonEmptyPlan: openTofu()})
	made, removed := 0, 0
	for _, r := range s.proxy.since(before) {
		path, _, _ := strings.Cut(r.uri, "?")
		if !sameFolder(s.Path, path) {
			continue
		}
		switch r.method {
		case http.MethodPost:
			made++
		case http.MethodDelete:
			removed++
		}
	}
	if made == 0 || made != removed {
		t.Errorf("%d made and %d removed, want all of several", made, removed)
	}
}

// testWriteOnly looks at what the server was sent.
func (s *subject) testWriteOnly(t *testing.T, a terraform.Trial) {
	wire := strings.TrimSuffix(a.Name, "_wo")
	step := func(value string, version int) string {
		with := s.minimal()
		with[a.Name], with[a.Name+"_version"] = value, fmt.Sprint(version)
		return s.config(with)
	}
	other := s.minimal()
	for _, b := range s.Attributes {
		if b.Required && !b.Immutable && len(b.Values) > 1 {
			other[b.Name] = b.Values[1]
			break
		}
	}
	unchanged := maps.Clone(other)
	unchanged[a.Name], unchanged[a.Name+"_version"] = a.Values[0], "1"
	before := s.proxy.count()
	s.test(t,
		resource.TestStep{Config: step(a.Values[0], 1), Check: resource.TestCheckNoResourceAttr(s.address(), a.Name)},
		resource.TestStep{Config: s.config(unchanged)},
		resource.TestStep{Config: step(a.Values[1], 2)},
	)
	var sent []string
	for _, r := range s.proxy.since(before) {
		var body map[string]any
		if r.method != http.MethodPost && r.method != http.MethodPut || json.Unmarshal(r.body, &body) != nil {
			continue
		}
		if v, ok := body[wire]; ok {
			sent = append(sent, fmt.Sprintf("%q", v))
		}
	}
	if got, want := strings.Join(sent, " "), a.Values[0]+" "+a.Values[1]; got != want {
		t.Errorf("sent %s, want %s: once at create and once with the new version", got, want)
	}
}

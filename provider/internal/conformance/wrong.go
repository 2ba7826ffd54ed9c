package conformance

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"

	"github.com/wattlenet/wattle/generated/terraform"
)

// testInvalid: what the contract refuses is refused at plan time, each value on
// the attribute of its own object, and nothing is sent.
func (s *subject) testInvalid(t *testing.T) {
	list, says := s.invalid()
	if len(list) == 0 {
		return
	}
	before, refused := s.proxy.writes(), false
	c := testCase(resource.TestStep{Config: s.configs(list), PlanOnly: true})
	c.ErrorCheck = func(err error) error {
		refused = true
		return missing(s, list, says, err.Error())
	}
	resource.Test(t, c)
	if !refused {
		t.Error("the plan succeeded")
	}
	if after := s.proxy.writes(); after != before {
		t.Errorf("%d writes reached the server, want none", after-before)
	}
}

// testRefusals sends the values that a plan refuses straight to the server: the
// last right write of the noun with one wrong value. It answers 422 and names
// the field.
func (s *subject) testRefusals(t *testing.T) {
	for _, a := range s.Attributes {
		wire := s.wire(a.Name)
		if strings.Contains(s.Path, "{"+wire+"}") {
			continue // it is in no body
		}
		for _, wrong := range a.Invalid {
			if a.Lenient && wrong == "[]" {
				continue
			}
			if wrong == "{}" { // a map by name is a list on the wire
				wrong = "[]"
			}
			s.refuses(t, a, wire, wrong)
		}
		for _, f := range a.Flaws {
			if f.Literal != "" {
				s.refuses(t, a, f.Path, f.Literal)
			}
		}
	}
}

func (s *subject) refuses(t *testing.T, a terraform.Trial, path, literal string) {
	t.Helper()
	write, ok := s.proxy.flawed(s.Path, path, literal, a.OptIn, a.Immutable)
	if !ok {
		t.Logf("%s is in no body that was sent", path)
		return
	}
	status, fields := s.proxy.refused(t, write)
	named := slices.ContainsFunc(fields, func(f string) bool {
		rest, below := strings.CutPrefix(f, path)
		return below && (rest == "" || rest[0] == '[')
	})
	if status != http.StatusUnprocessableEntity || !named {
		t.Errorf("%s = %.60s: the server answers %d about %q, want 422 about it", path, literal, status, fields)
	}
}

// wire is the name of an attribute in the API, behind that of the object that
// holds it where Terraform has no such level.
func (s *subject) wire(attribute string) string {
	for _, n := range terraform.Nouns {
		if n.Name != s.Noun {
			continue
		}
		for _, f := range n.Fields {
			if f.Name == attribute {
				return f.Wire
			}
			for _, inner := range f.Fields {
				if f.Kind == "flat" && inner.Name == attribute {
					return f.Wire + "." + inner.Wire
				}
			}
		}
	}
	return attribute
}

// invalid are objects with one fault each, and what must be said of it.
func (s *subject) invalid() (list []instance, says []string) {
	add := func(values map[string]string, text string) {
		list = append(list, instance{fmt.Sprintf("bad%d", len(list)), values})
		says = append(says, text)
	}
	for _, a := range s.Attributes {
		alone := func(wrong, text string) {
			with := s.minimal()
			with[a.Name] = wrong
			for _, other := range a.Excludes {
				delete(with, other)
			}
			add(with, text)
		}
		for _, wrong := range a.Invalid {
			alone(wrong, a.Name)
		}
		for _, f := range a.Flaws {
			if s.usable(map[string]string{a.Name: f.Value}) {
				alone(f.Value, f.Says)
			}
		}
		if a.Only {
			none := s.minimal()
			delete(none, a.Name)
			add(none, "Wrong combination")
		}
		if len(a.Excludes) > 0 {
			both, known := s.minimal(), true
			for _, b := range s.Attributes {
				if b.Name != a.Name && !slices.Contains(a.Excludes, b.Name) {
					continue
				}
				if known = known && len(b.Values) > 0; known {
					both[b.Name] = b.Values[0]
				}
			}
			if known {
				add(both, "Wrong combination")
			}
		}
	}
	return list, says
}

// missing names the objects of which the output does not say what it must, in
// a diagnostic of their own.
func missing(s *subject, list []instance, says []string, output string) error {
	var faults []error
	diagnostics := strings.Split(output, "Error: ")
	for i, x := range list {
		told := slices.ContainsFunc(diagnostics, func(d string) bool {
			return strings.Contains(d, "with "+x.address(s)+",") && strings.Contains(d, says[i])
		})
		if !told {
			faults = append(faults, fmt.Errorf("%s = %.80v: no diagnostic says %q", x.address(s), x.values, says[i]))
		}
	}
	if faults != nil {
		faults = append(faults, errors.New(output))
	}
	return errors.Join(faults...)
}

package conformance

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/wattlenet/wattle/generated/terraform"
)

// testAttributes: each attribute alone is set, put to its default, and unset.
// An immutable one plans a replacement, any other does not. Where there can be
// many objects, each attribute has one of its own and all go side by side.
func (s *subject) testAttributes(t *testing.T) {
	var list []terraform.Trial
	for _, a := range s.Attributes {
		if s.oneWay(a.Name) || len(a.Values) == 0 || len(a.Excludes) > 0 || a.Required && len(a.Values) < 2 {
			continue
		}
		if with := s.with(s.minimal(), a); s.usable(with) && s.config(with) != s.config(s.minimal()) {
			list = append(list, a)
		}
	}
	bases := s.bases(len(list))
	if bases == nil {
		s.test(t, append(s.oneAfterTheOther(list), s.lettingGo()...)...)
		return
	}
	before, set, explicit := s.sideBySide(list, bases)
	var checks []plancheck.PlanCheck
	for i, a := range list {
		checks = append(checks, expect(set[i].address(s), a, false)...)
	}
	s.test(t,
		resource.TestStep{Config: s.configs(before)},
		resource.TestStep{Config: s.configs(set), ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: checks}},
		resource.TestStep{Config: s.configs(explicit)},
		resource.TestStep{Config: s.configs(before)},
	)
}

func (x instance) address(s *subject) string { return s.Type + "." + x.label }

// with is an object with the attribute at a value that is not its default.
func (s *subject) with(base map[string]string, a terraform.Trial) map[string]string {
	out := maps.Clone(base)
	out[a.Name] = a.Values[0]
	if a.Required {
		out[a.Name] = a.Values[1]
	}
	return out
}

// bases are n minimal objects that can exist beside each other; nil when there
// are no so many.
func (s *subject) bases(n int) []map[string]string {
	var out []map[string]string
	for i := range n {
		base := s.minimal()
		switch {
		case s.Kind == terraform.Collection && base["name"] != "":
			s.number(base, strconv.Itoa(i))
		case s.Kind == terraform.Adopted && len(s.server.Existing[s.Noun]) > n:
			base[s.Key] = strconv.Quote(fmt.Sprintf("{{%s:%d}}", s.Noun, i+1))
		default:
			return nil
		}
		out = append(out, base)
	}
	return out
}

// number makes an object different from others in the fields that tell objects
// apart: its name and what looks it up. A domain gets another first label.
func (s *subject) number(values map[string]string, n string) {
	for field := range values {
		text, err := strconv.Unquote(values[field])
		switch {
		case err != nil || field != "name" && !slices.Contains(s.Lookup, field):
		case strings.Contains(text, "."):
			values[field] = `"n` + n + "." + text + `"`
		default:
			values[field] = `"` + text + " " + n + `"`
		}
	}
}

// sideBySide is the objects as they are made, with the attribute of each set,
// and with it at its default.
func (s *subject) sideBySide(list []terraform.Trial, bases []map[string]string) (before, set, explicit []instance) {
	for i, a := range list {
		label := "try_" + a.Name
		with := s.with(bases[i], a)
		if s.Kind == terraform.Adopted && a.Name == s.Key {
			with[a.Name] = strconv.Quote(fmt.Sprintf("{{%s:%d}}", s.Noun, len(list)+1)) // one that no other has
		}
		before = append(before, instance{label, bases[i]})
		set = append(set, instance{label, with})
		if a.Default != "" {
			with = maps.Clone(bases[i])
			with[a.Name] = a.Default
		}
		explicit = append(explicit, instance{label, with})
	}
	return before, set, explicit
}

// oneAfterTheOther changes one object: each step sets an attribute and unsets
// the one before.
func (s *subject) oneAfterTheOther(list []terraform.Trial) []resource.TestStep {
	base := s.minimal()
	steps := []resource.TestStep{{Config: s.config(base)}}
	undone := false // the step also undoes an immutable attribute
	for _, a := range list {
		steps = append(steps, resource.TestStep{
			Config:           s.config(s.with(base, a)),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: expect(s.address(), a, undone)},
		})
		undone = a.Immutable
		if a.Default != "" {
			explicit := maps.Clone(base)
			explicit[a.Name] = a.Default
			steps = append(steps, resource.TestStep{Config: s.config(explicit)})
			undone = false
		}
	}
	return append(steps, resource.TestStep{Config: s.config(base)})
}

func expect(address string, a terraform.Trial, undone bool) []plancheck.PlanCheck {
	if a.WriteOnly || a.Chosen {
		return nil
	}
	action := plancheck.ResourceActionUpdate
	if a.Immutable || undone {
		action = plancheck.ResourceActionReplace
	}
	return []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, action)}
}

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
		write, ok := s.proxy.lastWrite(s.Path, wire)
		if !ok && a.OptIn {
			write, ok = s.proxy.lastWrite(s.Path, "")
		}
		for _, wrong := range a.Invalid {
			if !ok || s.isPathParameter(wire) {
				t.Logf("%s is in no body that was sent", a.Name)
				break
			}
			if a.Lenient && wrong == "[]" {
				continue
			}
			literal := wrong
			if wrong == "{}" { // a map by name is a list on the wire
				literal = "[]"
			}
			status, fields := s.proxy.refused(t, write, wire, literal)
			named := slices.ContainsFunc(fields, func(f string) bool { return f == wire || strings.HasPrefix(f, wire+"[") })
			if status != http.StatusUnprocessableEntity || !named {
				t.Errorf("%s = %.60s: the server answers %d about %q, want 422 about %q", a.Name, wrong, status, fields, wire)
			}
		}
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

func (s *subject) isPathParameter(wire string) bool { return strings.Contains(s.Path, "{"+wire+"}") }

// invalid are objects with one fault each, and what must be said of it.
func (s *subject) invalid() (list []instance, says []string) {
	add := func(values map[string]string, text string) {
		list = append(list, instance{fmt.Sprintf("bad%d", len(list)), values})
		says = append(says, text)
	}
	for _, a := range s.Attributes {
		for _, wrong := range a.Invalid {
			with := s.minimal()
			with[a.Name] = wrong
			for _, other := range a.Excludes {
				delete(with, other)
			}
			add(with, a.Name)
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

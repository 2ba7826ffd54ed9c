package conformance

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"

	"github.com/wattlenet/wattle/generated/terraform"
)

// testAttributes: each attribute alone is set, put to its default or to what is
// empty, and unset. An immutable one plans a replacement, any other does not.
// Where there can be many objects, each attribute has one of its own and all go
// side by side; then each is changed behind Terraform's back and repaired in place.
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
		s.test(t, s.oneAfterTheOther(list)...)
		return
	}
	before, set, explicit := s.sideBySide(list, bases)
	var checks, repairs []plancheck.PlanCheck
	for i, a := range list {
		checks = append(checks, expect(set[i].address(s), a, false)...)
		if !a.Immutable && !a.OptIn && !a.Synthetic { // what is not managed is not repaired either
			repairs = append(repairs, expect(set[i].address(s), a, false)...)
		}
	}
	var from, to int
	s.test(t,
		resource.TestStep{Config: s.configs(before)},
		resource.TestStep{
			PreConfig:        func() { from = s.proxy.count() },
			Config:           s.configs(set),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: checks},
		},
		resource.TestStep{PreConfig: func() { to = s.proxy.count() }, Config: s.configs(explicit)},
		// Unset again, and every change once more behind Terraform's back.
		resource.TestStep{
			PreConfig:        func() { s.proxy.again(from, to) },
			Config:           s.configs(before),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: repairs},
		},
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
// and with it at its default or empty.
func (s *subject) sideBySide(list []terraform.Trial, bases []map[string]string) (before, set, explicit []instance) {
	for i, a := range list {
		label := "try_" + a.Name
		with := s.with(bases[i], a)
		if s.Kind == terraform.Adopted && a.Name == s.Key {
			with[a.Name] = strconv.Quote(fmt.Sprintf("{{%s:%d}}", s.Noun, len(list)+1)) // one that no other has
		}
		before = append(before, instance{label, bases[i]})
		set = append(set, instance{label, with})
		if plain := another(a); plain != "" {
			with = maps.Clone(bases[i])
			with[a.Name] = plain
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
		if plain := another(a); plain != "" {
			explicit := maps.Clone(base)
			explicit[a.Name] = plain
			steps = append(steps, resource.TestStep{Config: s.config(explicit)})
			undone = false
		}
	}
	return append(steps, resource.TestStep{Config: s.config(base)})
}

// another is a value to try beside the first: the default, the empty one or, of
// what has neither since it must be set, a third.
func another(a terraform.Trial) string {
	if a.Required && len(a.Values) > 2 {
		return a.Values[2]
	}
	return cmp.Or(a.Default, a.Empty)
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

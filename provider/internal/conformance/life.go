package conformance

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	tfstate "github.com/hashicorp/terraform-plugin-testing/terraform"

	"github.com/wattlenet/wattle/generated/terraform"
)

// testLife takes one object from its creation to its end. After every step a
// plan is empty, with and without a refresh:
//
//	made with what must be set -> imported by id and by each field that looks it up
//	-> of every other shape -> everything set, imported -> back
//	-> changed, and found by the data sources -> back
//	-> changed behind Terraform's back: repaired in place
//	-> removed behind its back: made again -> destroyed although it is gone
func (s *subject) testLife(t *testing.T) {
	minimal := s.config(s.minimal())
	steps := []resource.TestStep{{Config: minimal, Check: resource.ComposeAggregateTestCheckFunc(s.withoutSecrets(), s.importedByIdentity(t))}}
	steps = append(steps, s.imports(s.minimal())...)
	steps = append(steps, s.shapes()...)
	if full := s.config(s.full()); full != minimal {
		steps = append(steps, resource.TestStep{Config: full})
		steps = append(steps, s.imports(s.full())...)
		steps = append(steps, resource.TestStep{Config: minimal})
	}
	more, check := s.dataSources()
	if s.Kind != terraform.Collection {
		steps = append(steps, resource.TestStep{Config: s.config(s.changed(), more...), Check: check})
		steps = append(steps, s.driftOfOne()...)
		s.test(t, steps...)
		return
	}
	var item string // the path of the object
	find := func(state *tfstate.State) (err error) {
		item, err = s.itemPath(state)
		return err
	}
	steps = append(steps, resource.TestStep{Config: s.config(s.changed(), more...), Check: resource.ComposeAggregateTestCheckFunc(check, find)})
	steps = append(steps, s.drift(minimal)...)
	remove := func() {
		s.proxy.send(request{method: http.MethodDelete, uri: item, header: http.Header{"Authorization": {"Token " + s.server.Token}}})
	}
	steps = append(steps,
		resource.TestStep{PreConfig: remove, Config: minimal, Check: find, ConfigPlanChecks: planned(s.address(), plancheck.ResourceActionCreate)},
		resource.TestStep{PreConfig: remove, Config: minimal, Destroy: true},
	)
	s.test(t, steps...)
}

// withoutSecrets checks that no secret is in the state unasked.
func (s *subject) withoutSecrets() resource.TestCheckFunc {
	var checks []resource.TestCheckFunc
	for _, a := range s.Attributes {
		if secret, ok := strings.CutSuffix(a.Name, "_in_state"); ok && a.Synthetic {
			checks = append(checks, resource.TestCheckNoResourceAttr(s.address(), secret))
		}
	}
	return resource.ComposeAggregateTestCheckFunc(checks...)
}

// drift: the last change of the object is undone, then sent once more behind
// Terraform's back.
func (s *subject) drift(config string) []resource.TestStep {
	if maps.Equal(s.changed(), s.minimal()) {
		return nil // nothing can change in place
	}
	var replay func()
	return []resource.TestStep{
		{PreConfig: func() { replay = s.proxy.last() }, Config: config},
		{
			PreConfig: func() {
				if replay == nil {
					panic(s.Noun + ": the change was no replacement")
				}
				replay()
			},
			Config:           config,
			ConfigPlanChecks: planned(s.address(), plancheck.ResourceActionUpdate),
		},
	}
}

// driftOfOne is the same for what is there without Terraform: an attribute is
// managed at one value, and gets another behind its back.
func (s *subject) driftOfOne() []resource.TestStep {
	for _, a := range s.Attributes {
		if a.Immutable || a.Synthetic || a.WriteOnly || len(a.Values) < 2 || len(a.Excludes) > 0 || s.oneWay(a.Name) {
			continue
		}
		one, other := s.minimal(), s.minimal()
		one[a.Name], other[a.Name] = a.Values[0], a.Values[1]
		if !s.usable(one) || !s.usable(other) {
			continue
		}
		steps := []resource.TestStep{{Config: s.config(one)}, {Config: s.config(other)}}
		var replay func()
		return append(steps,
			resource.TestStep{PreConfig: func() { replay = s.proxy.last() }, Config: s.config(one)},
			resource.TestStep{
				PreConfig:        func() { replay() },
				Config:           s.config(one),
				ConfigPlanChecks: planned(s.address(), plancheck.ResourceActionUpdate),
			})
	}
	return nil
}

// changed is the minimal object with one attribute that can change in place
// at another of its values; the same as minimal when there is none.
func (s *subject) changed() map[string]string {
	out := s.minimal()
	for _, a := range s.Attributes {
		if a.Immutable || a.Synthetic || a.WriteOnly || a.OptIn || len(a.Values) == 0 || len(a.Excludes) > 0 || s.oneWay(a.Name) {
			continue
		}
		value := a.Values[len(a.Values)-1]
		if out[a.Name] == value || !s.usable(map[string]string{a.Name: value}) {
			continue
		}
		out[a.Name] = value
		return out
	}
	return out
}

func planned(address string, action plancheck.ResourceActionType) resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, action)}}
}

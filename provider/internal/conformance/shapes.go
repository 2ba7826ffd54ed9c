package conformance

import (
	"cmp"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
)

// shapes takes a smallest object through every other shape. Each plan after it
// is empty, and the last one is imported as it was made.
func (s *subject) shapes() []resource.TestStep {
	var steps []resource.TestStep
	now := s.minimal()
	for _, next := range s.Others {
		if s.usable(next) {
			steps = append(steps, resource.TestStep{Config: s.config(next), ConfigPlanChecks: planned(s.address(), s.step(now, next))})
			now = next
		}
	}
	if len(steps) == 0 {
		return nil
	}
	return append(steps, s.imports(now)...)
}

// step is what has to be planned from one object to another.
func (s *subject) step(from, to map[string]string) plancheck.ResourceActionType {
	action := plancheck.ResourceActionNoop
	for _, a := range s.Attributes {
		switch {
		case cmp.Or(from[a.Name], a.Default) == cmp.Or(to[a.Name], a.Default):
		case a.Immutable:
			return plancheck.ResourceActionReplace
		default:
			action = plancheck.ResourceActionUpdate
		}
	}
	return action
}

package main

import (
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

// TestReferrers: what uses a group, before and after something does, and what
// is said of a noun of which nothing is known.
func TestReferrers(t *testing.T) {
	plane := controlplanetest.New(t)
	const group = "resource \"wattle_group\" \"web\" {\n  name = \"web\"\n}\n"
	const asked = "data \"wattle_referrers\" \"web\" {\n  type = \"group\"\n  id = wattle_group.web.id\n"
	const used = group + "resource \"wattle_setup_key\" \"web\" {\n  name = \"web\"\n  auto_groups = [wattle_group.web.id]\n}\n" + asked + "  depends_on = [wattle_setup_key.web]\n}\n"
	const at = "data.wattle_referrers.web"
	apply(t, plane,
		resource.TestStep{Config: group + asked + "}\n", Check: resource.TestCheckResourceAttr(at, "referrers.#", "0")},
		resource.TestStep{Config: used, Check: resource.ComposeAggregateTestCheckFunc(
			resource.TestCheckResourceAttr(at, "referrers.#", "1"),
			resource.TestCheckResourceAttr(at, "referrers.0.type", "setup_key"),
			resource.TestCheckResourceAttr(at, "referrers.0.name", "web"),
			resource.TestCheckResourceAttr(at, "referrers.0.field", "auto_groups"),
			resource.TestCheckResourceAttrPair(at, "referrers.0.id", "wattle_setup_key.web", "id"),
		)},
		resource.TestStep{Config: used + "data \"wattle_referrers\" \"none\" {\n  type = \"weather\"\n  id = \"x\"\n}\n", ExpectError: regexp.MustCompile(`(?s)type = "weather".*tells what refers to a group, `)},
		resource.TestStep{Config: used + "data \"wattle_referrers\" \"none\" {\n  type = \"group\"\n  parent_id = \"x\"\n  id = \"x\"\n}\n", ExpectError: regexp.MustCompile(`(?s)parent_id = "x".*lies in no\s+other`)},
		resource.TestStep{Config: used + "data \"wattle_referrers\" \"none\" {\n  type = \"peer\"\n  id = \"x\"\n}\n", ExpectError: regexp.MustCompile(`Cannot list what refers to a peer`)},
	)
}

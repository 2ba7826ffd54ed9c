package main

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"

	"github.com/wattlenet/wattle/controlplane/controlplanetest"
)

// TestSSHPeople: the generated cases cannot know ids that are keys of a map.
func TestSSHPeople(t *testing.T) {
	plane := controlplanetest.New(t)
	config := func(people string) string {
		return `
resource "wattle_group" "staff" {
  name = "staff"
}

resource "wattle_policy" "ssh" {
  name = "ssh"
  rules = {
    staff = {
      protocol          = "ssh"
      sources           = [wattle_group.staff.id]
      destinations      = [wattle_group.staff.id]
      authorized_groups = ` + people + `
    }
  }
}`
	}
	key := `{ (wattle_group.staff.id) = `
	count := func(n string) resource.TestCheckFunc {
		return resource.TestCheckResourceAttr("wattle_policy.ssh", "rules.staff.authorized_groups.%", n)
	}
	apply(t, plane,
		resource.TestStep{Config: config(key + `["root", "deploy"] }`), Check: count("1")},
		resource.TestStep{Config: config(key + `["deploy"] }`), Check: count("1")},
		resource.TestStep{Config: config("null"), Check: resource.TestCheckNoResourceAttr("wattle_policy.ssh", "rules.staff.authorized_groups.%")},
	)
}

// TestExposing: a setting that needs another one, set together and let go of.
func TestExposing(t *testing.T) {
	plane := controlplanetest.New(t)
	config := func(enabled, groups string) string {
		return `
resource "wattle_group" "web" {
  name = "web"
}

resource "wattle_account_settings" "it" {
  peer_expose_enabled = ` + enabled + `
  peer_expose_groups  = ` + groups + `
}`
	}
	apply(t, plane,
		resource.TestStep{Config: config("true", "[wattle_group.web.id]")},
		resource.TestStep{Config: config("true", "[wattle_group.web.id]"), PlanOnly: true},
		resource.TestStep{Config: config("false", "[]")},
	)
}

// TestAuditSources: the audit as data, filtered, with both sides of a change.
func TestAuditSources(t *testing.T) {
	plane := controlplanetest.New(t)
	config := `
resource "wattle_group" "web" {
  name = "web"
}

data "wattle_audit_events" "made" {
  target   = wattle_group.web.id
  activity = "group.create"
}

data "wattle_audit_event" "one" {
  id = data.wattle_audit_events.made.audit_events[0].id
}`
	apply(t, plane, resource.TestStep{Config: config, Check: resource.ComposeAggregateTestCheckFunc(
		resource.TestCheckResourceAttr("data.wattle_audit_events.made", "audit_events.#", "1"),
		resource.TestCheckResourceAttr("data.wattle_audit_events.made", "audit_events.0.channel", "terraform"),
		resource.TestCheckResourceAttr("data.wattle_audit_event.one", "after", `{"name":"web","peers":[],"resources":[]}`),
		resource.TestCheckNoResourceAttr("data.wattle_audit_event.one", "before"),
		resource.TestCheckResourceAttr("data.wattle_audit_event.one", "meta.name", "web"),
	)})
}

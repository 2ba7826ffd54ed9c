terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

resource "wattle_group" "other" {
  name = "other"
}

resource "wattle_user" "example" {
  name            = "example"
  auto_groups     = [wattle_group.other.id]
  is_blocked      = true
  is_service_user = true
  role            = "auditor"
}

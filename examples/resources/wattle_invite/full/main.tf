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

resource "wattle_invite" "example" {
  name        = "example"
  auto_groups = [wattle_group.other.id]
  email       = "ada@example.org"
  expires_in  = 86400
  role        = "user"
}

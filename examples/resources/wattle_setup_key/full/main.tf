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

resource "wattle_setup_key" "example" {
  name                   = "example"
  allow_extra_dns_labels = true
  auto_groups            = [wattle_group.other.id]
  ephemeral              = true
  expires_in             = 86400
  type                   = "reusable"
  usage_limit            = 10
}

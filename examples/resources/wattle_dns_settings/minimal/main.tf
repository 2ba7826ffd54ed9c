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

resource "wattle_dns_settings" "example" {
  disabled_management_groups = [wattle_group.other.id]
}

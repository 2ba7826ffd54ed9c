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

resource "wattle_dns_zone" "example" {
  name                = "example"
  distribution_groups = [wattle_group.other.id]
  domain              = "one.example.org"
}

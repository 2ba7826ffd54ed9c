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

resource "wattle_policy" "example" {
  name = "example"
  rules = {
    "one" = {
      destinations = [wattle_group.other.id]
      sources      = [wattle_group.other.id]
    }
  }
}

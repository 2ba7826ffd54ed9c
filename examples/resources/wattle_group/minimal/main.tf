terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

resource "wattle_group" "example" {
  name = "example"
}

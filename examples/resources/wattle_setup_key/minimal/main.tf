terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

resource "wattle_setup_key" "example" {
  name = "example"
}

terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

resource "wattle_network" "other" {
  name = "other"
}

resource "wattle_network_resource" "example" {
  name       = "example"
  address    = "192.0.2.10"
  network_id = wattle_network.other.id
}

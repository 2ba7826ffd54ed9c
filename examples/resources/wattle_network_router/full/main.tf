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

data "wattle_peer" "other" {
  name = "laptop"
}

resource "wattle_network_router" "example" {
  enabled    = false
  masquerade = false
  metric     = 10
  network_id = wattle_network.other.id
  peer       = data.wattle_peer.other.id
}

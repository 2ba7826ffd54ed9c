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

data "wattle_peer" "other" {
  name = "laptop"
}

resource "wattle_route" "example" {
  groups     = [wattle_group.other.id]
  network    = "10.10.0.0/16"
  network_id = "first"
  peer       = data.wattle_peer.other.id
}

terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

data "wattle_peer" "other" {
  name = "laptop"
}

resource "wattle_group" "example" {
  name  = "example"
  peers = [data.wattle_peer.other.id]
}

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

resource "wattle_peer" "example" {
  id = data.wattle_peer.other.id
}

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

resource "wattle_group_membership" "example" {
  group_id = wattle_group.other.id
  peer_id  = data.wattle_peer.other.id
}

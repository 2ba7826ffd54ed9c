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
  name              = "example"
  approval_required = true
  id                = data.wattle_peer.other.id
  ip                = "100.64.0.101"
  ipv6              = "fd00::1"
  ssh_enabled       = true
}

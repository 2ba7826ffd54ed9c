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
  access_control_groups = [wattle_group.other.id]
  description           = "Declared in Terraform."
  enabled               = false
  groups                = [wattle_group.other.id]
  keep_route            = false
  masquerade            = false
  metric                = 10
  network               = "10.10.0.0/16"
  network_id            = "first"
  peer                  = data.wattle_peer.other.id
  skip_auto_apply       = true
}

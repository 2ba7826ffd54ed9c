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

resource "wattle_posture_check" "other" {
  agent_version_check = {
    min_version = "1.2.3"
  }
  name = "other"
}

resource "wattle_policy" "example" {
  name        = "example"
  description = "Declared in Terraform."
  enabled     = false
  rules = {
    "one" = {
      destinations = [wattle_group.other.id]
      sources      = [wattle_group.other.id]
    }
    "two" = {
      action        = "drop"
      bidirectional = false
      description   = "Declared in Terraform."
      destination_resource = {
        id   = data.wattle_peer.other.id
        type = "peer"
      }
      enabled    = false
      mode       = "enforce"
      not_after  = "2031-01-31T18:00:00Z"
      not_before = "2031-01-31T08:00:00Z"
      port_ranges = [{
        end   = 443
        start = 443
      }]
      protocol = "tcp"
      source_resource = {
        id   = data.wattle_peer.other.id
        type = "peer"
      }
    }
  }
  source_posture_checks = [wattle_posture_check.other.id]
}

# Two offices reach each other's networks through gateways, with no agent on any
# other machine, and engineers on the road reach a server of one office.

terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

# Address and token come from the credentials profile that wattle-server up wrote.
provider "wattle" {}

variable "sites" {
  description = "The network of each office in CIDR form, by the name of the office."
  type        = map(string)
  default = {
    berlin = "10.10.0.0/16"
    paris  = "10.20.0.0/16"
  }
}

# Every machine that enrols with the key of an office is a gateway of it: two of
# them take over from each other.
resource "wattle_group" "gateways" {
  for_each = var.sites
  name     = "gateways of ${each.key}"
}

resource "wattle_setup_key" "gateways" {
  for_each    = var.sites
  name        = "gateways of ${each.key}"
  type        = "reusable"
  auto_groups = [wattle_group.gateways[each.key].id]
}

resource "wattle_network" "office" {
  for_each    = var.sites
  name        = each.key
  description = "The office in ${title(each.key)}."
}

resource "wattle_network_router" "office" {
  for_each    = var.sites
  network_id  = wattle_network.office[each.key].id
  peer_groups = [wattle_group.gateways[each.key].id]
  masquerade  = false # the offices know the way back
}

resource "wattle_network_resource" "office" {
  for_each   = var.sites
  network_id = wattle_network.office[each.key].id
  name       = "${each.key} office"
  address    = each.value
}

resource "wattle_policy" "offices" {
  name        = "between the offices"
  description = "Either office may open traffic to the other."

  rules = {
    "berlin and paris" = {
      source_resource      = { id = wattle_network_resource.office["berlin"].id, type = "subnet" }
      destination_resource = { id = wattle_network_resource.office["paris"].id, type = "subnet" }
    }
  }
}

# A single server gets a resource of its own, in a group that policies name.
resource "wattle_group" "engineers" {
  name = "engineers"
}

resource "wattle_group" "builds" {
  name = "build servers"
}

resource "wattle_network_resource" "build_server" {
  network_id = wattle_network.office["berlin"].id
  name       = "build server"
  address    = "10.10.0.5"
  groups     = [wattle_group.builds.id]
}

resource "wattle_policy" "builds" {
  name = "engineers to the build servers"

  rules = {
    "https" = {
      protocol      = "tcp"
      ports         = ["443"]
      bidirectional = false
      sources       = [wattle_group.engineers.id]
      destinations  = [wattle_group.builds.id]
    }
  }
}

output "networks" {
  description = "The networks, for other configurations."
  value       = { for name, network in wattle_network.office : name => network.id }
}

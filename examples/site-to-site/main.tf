# Two sites whose machines reach each other without an agent on each of them:
# one routing peer per site carries its subnet, and a policy says who gets in.
#
#   10.10.0.0/16 berlin ── routers ══ overlay ══ routers ── madrid 10.20.0.0/16
#
# Routers join by the setup key of their site. Two routers of one site take over
# from each other: one that does not answer is left within three seconds, and
# `wattle route list` tells who carries the traffic.

terraform {
  required_version = ">= 1.11"
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

provider "wattle" {}

variable "sites" {
  type        = map(string)
  description = "The subnet of each site."
  default = {
    berlin = "10.10.0.0/16"
    madrid = "10.20.0.0/16"
  }
}

# The machines that route for a site, and what lies behind them.
resource "wattle_group" "routers" {
  for_each = var.sites
  name     = "${each.key} routers"
}

resource "wattle_group" "subnet" {
  for_each = var.sites
  name     = "${each.key} subnet"
}

resource "wattle_setup_key" "router" {
  for_each    = var.sites
  name        = "${each.key} router"
  type        = "reusable"
  expires_in  = 604800
  usage_limit = 2
  auto_groups = [wattle_group.routers[each.key].id]
}

resource "wattle_network" "site" {
  for_each    = var.sites
  name        = each.key
  description = "Everything at ${each.key}."
}

resource "wattle_network_resource" "subnet" {
  for_each   = var.sites
  network_id = wattle_network.site[each.key].id
  name       = "${each.key} subnet"
  address    = each.value
  groups     = [wattle_group.subnet[each.key].id]
}

# Without masquerade machines of the site see the overlay addresses of those who
# come, and must send their answers to the router: it is their gateway, or that
# has a route to the network's range by way of it. With `masquerade = true` they see the router's
# own address and nothing has to be set up there.
resource "wattle_network_router" "site" {
  for_each    = var.sites
  network_id  = wattle_network.site[each.key].id
  peer_groups = [wattle_group.routers[each.key].id]
  metric      = 100
  masquerade  = false
}

# Each site's routers open traffic into the other site's subnet.
resource "wattle_policy" "between" {
  name        = "between the sites"
  description = "HTTPS and SSH from either site to the other."

  rules = {
    for name, subnet in var.sites : "to ${name}" => {
      sources       = [for other, _ in var.sites : wattle_group.routers[other].id if other != name]
      destinations  = [wattle_group.subnet[name].id]
      protocol      = "tcp"
      ports         = ["22", "443"]
      bidirectional = false
    }
  }
}

# The functions of the provider: they need no control plane and are known while Terraform plans.

terraform {
  required_version = ">= 1.8"
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

variable "sites" {
  description = "The networks of the sites, as their administrators write them."
  type        = map(string)
  default = {
    berlin = "10.20.7.1/16"
    paris  = "10.21.0.0/16"
    lab    = "10.20.64.0/20"
  }
}

locals {
  # The API accepts one spelling of a network: without bits behind its length.
  sites = { for name, network in var.sites : name => provider::wattle::canonical_cidr(network) }

  # Two sites that overlap cannot be joined by routes.
  names = sort(keys(local.sites))
  clashes = flatten([for i, a in local.names : [
    for b in slice(local.names, i + 1, length(local.names)) : "${a} and ${b}"
    if provider::wattle::cidr_overlaps(local.sites[a], local.sites[b])
  ]])
}

output "sites" {
  value = local.sites
}

output "clashes" {
  value = local.clashes
}

output "berlin_without_lab" {
  value = provider::wattle::cidr_exclude(local.sites.berlin, [local.sites.lab])
}

output "lab_is_in_berlin" {
  value = provider::wattle::cidr_contains(local.sites.berlin, local.sites.lab)
}

output "label" {
  value = provider::wattle::dns_label("Web_1.example.org")
}

output "join" {
  value = provider::wattle::up_command("https://mesh.example:8443", "", "/run/setup key")
}

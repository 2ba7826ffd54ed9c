# Who may reach what, written as a table: a module turns it into groups and
# policies.

terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

# Address and token come from the credentials profile that wattle-server up wrote.
provider "wattle" {}

module "access" {
  source = "./access"

  groups = ["developers", "databases", "web"]

  allow = {
    "developers to databases" = { from = ["developers"], to = ["databases"], ports = ["5432"] }
    "developers to web"       = { from = ["developers"], to = ["web"], ports = ["22", "443"] }
    "web to databases"        = { from = ["web"], to = ["databases"], ports = ["5432"] }
  }
}

# A machine joins its groups by the key that it enrols with.
resource "wattle_setup_key" "web" {
  name        = "web servers"
  type        = "reusable"
  auto_groups = [module.access.group_ids["web"]]
}

output "group_ids" {
  description = "The groups, for other configurations."
  value       = module.access.group_ids
}

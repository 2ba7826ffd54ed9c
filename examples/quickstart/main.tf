# A network of machines that may ping each other and nothing else.

terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

# Address and token come from the credentials profile that wattle-server up wrote.
provider "wattle" {}

resource "wattle_group" "machines" {
  name = "quickstart"
}

resource "wattle_policy" "ping" {
  name        = "quickstart ping"
  description = "The machines of the quickstart may ping each other."

  rules = {
    "ping" = {
      protocol     = "icmp"
      sources      = [wattle_group.machines.id]
      destinations = [wattle_group.machines.id]
    }
  }
}

# The key stands in the state, so that the machines can take it from an output.
# Where something else hands it on, use ephemeral "wattle_setup_key" instead.
resource "wattle_setup_key" "machines" {
  name         = "quickstart"
  type         = "reusable"
  expires_in   = 86400
  auto_groups  = [wattle_group.machines.id]
  key_in_state = true
}

output "setup_key" {
  description = "Enrols machines: wattle up --setup-key-file FILE"
  value       = wattle_setup_key.machines.key
  sensitive   = true
}

output "group_id" {
  description = "The group that the machines join."
  value       = wattle_group.machines.id
}

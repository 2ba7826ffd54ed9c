# A network that a repository owns: pull requests show the plan, the main branch
# applies it, and deployments reach the servers through the network.
#
# The state lies in the control plane, so runners keep nothing; see
# .github/workflows/network.yml beside this file.

terraform {
  required_version = ">= 1.11"
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }

  # Address, user and password come from TF_HTTP_* in the workflow.
  backend "http" {}
}

# WATTLE_URL, WATTLE_TOKEN and WATTLE_CA_PIN come from the workflow.
provider "wattle" {}

resource "wattle_group" "servers" {
  name = "servers"
}

resource "wattle_group" "runners" {
  name = "runners"
}

resource "wattle_policy" "deploy" {
  name        = "runners deploy"
  description = "Jobs of the pipeline reach the servers by SSH, and nothing reaches the jobs."

  rules = {
    ssh = {
      sources       = [wattle_group.runners.id]
      destinations  = [wattle_group.servers.id]
      protocol      = "tcp"
      ports         = ["22"]
      bidirectional = false
    }
  }
}

# Runners come and go: the key may be used often, and a machine that it enrols
# is removed some minutes after it has gone.
resource "wattle_setup_key" "runners" {
  name         = "runners"
  type         = "reusable"
  expires_in   = 7776000
  ephemeral    = true
  auto_groups  = [wattle_group.runners.id]
  key_in_state = true
}

# What the pipeline acts as: it may change the network, but neither users nor settings.
resource "wattle_user" "pipeline" {
  name            = "pipeline"
  role            = "network_admin"
  is_service_user = true
}

output "runners_key" {
  description = "Becomes the secret WATTLE_SETUP_KEY of the repository."
  value       = wattle_setup_key.runners.key
  sensitive   = true
}

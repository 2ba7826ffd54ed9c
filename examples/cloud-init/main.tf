# User data with which a new machine installs the agent and enrols by itself.
# Hand it to whatever makes machines: user_data of an aws_instance or a
# hcloud_server, metadata.user-data of a google_compute_instance.

terraform {
  required_version = ">= 1.11"
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

provider "wattle" {}

variable "agent_url" {
  type        = string
  description = "Where machines download the agent: a place of your own, or the release page."
}

variable "agent_sha256" {
  type        = string
  description = "The SHA-256 of that file, as in SHA256SUMS of the release."
}

resource "wattle_group" "web" {
  name = "web servers"
}

# One machine, one hour. The state and the user data hold the key, so it is
# short-lived and works once.
resource "wattle_setup_key" "web" {
  name         = "web-1"
  type         = "one-off"
  expires_in   = 3600
  auto_groups  = [wattle_group.web.id]
  key_in_state = true
}

data "wattle_cloud_init" "web" {
  agent_url    = var.agent_url
  agent_sha256 = var.agent_sha256
  setup_key    = wattle_setup_key.web.key
  hostname     = "web-1"
}

# For an image that has the agent, on a cloud that puts the key there itself:
# this user data holds no secret.
data "wattle_cloud_init" "baked" {
  install        = "none"
  setup_key_file = "/run/credentials/wattle-setup-key"
}

output "user_data" {
  value     = data.wattle_cloud_init.web.user_data
  sensitive = true
}

output "user_data_without_secret" {
  value     = data.wattle_cloud_init.baked.user_data
  sensitive = true
}

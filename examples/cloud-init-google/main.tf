# A machine on Google Cloud that joins the network at its first boot.
#
# Checked: formatted, and applied, planned empty and destroyed by a test whose
# google provider is a stand-in that takes every argument. The network, the key
# and the user data in it are real; the cloud was not asked.

terraform {
  required_version = ">= 1.11"
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
    google = {
      source = "hashicorp/google"
    }
  }
}

provider "wattle" {}

provider "google" {
  project = var.project
  region  = "europe-west3"
}

variable "project" {
  type        = string
  description = "The project that pays."
}

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

# One machine, one hour: user data can be read by everybody who may describe
# the machine, so the key in it is short-lived and works once.
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

resource "google_compute_instance" "web" {
  name         = "web-1"
  machine_type = "e2-micro"
  zone         = "europe-west3-a"

  # An image with cloud-init; Debian's own has none.
  boot_disk {
    initialize_params {
      image = "ubuntu-os-cloud/ubuntu-2404-lts-amd64"
    }
  }

  network_interface {
    network = "default"
  }

  metadata = {
    user-data = data.wattle_cloud_init.web.user_data
  }

  # The text changes with the key; the machine must not.
  lifecycle {
    ignore_changes = [metadata["user-data"]]
  }
}

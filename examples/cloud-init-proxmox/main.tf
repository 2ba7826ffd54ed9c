# A virtual machine on Proxmox that joins the network at its first boot.
#
# Checked: formatted, and applied, planned empty and destroyed by a test whose
# proxmox provider is a stand-in that takes every argument. The network, the key
# and the user data in it are real; the cloud was not asked.

terraform {
  required_version = ">= 1.11"
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
    proxmox = {
      source = "bpg/proxmox"
    }
  }
}

provider "wattle" {}

# The endpoint and the token come from PROXMOX_VE_ENDPOINT and
# PROXMOX_VE_API_TOKEN; uploading a snippet needs ssh to the node as well.
provider "proxmox" {
  insecure = false
}

variable "node" {
  type        = string
  description = "The node of the cluster."
}

variable "image" {
  type        = string
  description = "The id of a disk image with cloud-init, such as local:iso/debian-12.img."
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

resource "proxmox_virtual_environment_file" "web" {
  content_type = "snippets"
  datastore_id = "local"
  node_name    = var.node

  source_raw {
    data      = data.wattle_cloud_init.web.user_data
    file_name = "web-1.yaml"
  }

  # The text changes with the key; the machine must not.
  lifecycle {
    ignore_changes = [source_raw]
  }
}

resource "proxmox_virtual_environment_vm" "web" {
  name      = "web-1"
  node_name = var.node

  agent {
    enabled = true
  }

  cpu {
    cores = 1
  }

  memory {
    dedicated = 1024
  }

  disk {
    datastore_id = "local-lvm"
    file_id      = var.image
    interface    = "virtio0"
    size         = 10
  }

  network_device {
    bridge = "vmbr0"
  }

  initialization {
    user_data_file_id = proxmox_virtual_environment_file.web.id
  }
}

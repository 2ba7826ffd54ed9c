# A machine on AWS that joins the network at its first boot.
#
# Checked: formatted, and applied, planned empty and destroyed by a test whose
# aws provider is a stand-in that takes every argument. The network, the key
# and the user data in it are real; the cloud was not asked.

terraform {
  required_version = ">= 1.11"
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
    aws = {
      source = "hashicorp/aws"
    }
  }
}

provider "wattle" {}

provider "aws" {
  region = "eu-central-1"
}

variable "ami" {
  type        = string
  description = "An image with cloud-init, such as Debian or Ubuntu."
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

# No rule for WireGuard: machines reach each other through NATs and firewalls
# that let answers in. Opening UDP 51820 saves the search for a way.
resource "aws_security_group" "web" {
  name = "web"
}

resource "aws_vpc_security_group_egress_rule" "web" {
  security_group_id = aws_security_group.web.id
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_instance" "web" {
  ami                    = var.ami
  instance_type          = "t3.micro"
  vpc_security_group_ids = [aws_security_group.web.id]
  user_data              = data.wattle_cloud_init.web.user_data

  # The text changes with the key; the machine must not.
  lifecycle {
    ignore_changes = [user_data]
  }

  metadata_options {
    http_tokens = "required"
  }
}

# A network whose Terraform state the control plane keeps.

terraform {
  required_version = ">= 1.11"
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }

  # Everything comes from the environment: see env.sh.
  backend "http" {}
}

provider "wattle" {}

resource "wattle_group" "web" {
  name = "web servers"
}

resource "wattle_group" "databases" {
  name = "databases"
}

resource "wattle_policy" "web_to_databases" {
  name = "web servers reach databases"
  rules = {
    postgres = {
      sources       = [wattle_group.web.id]
      destinations  = [wattle_group.databases.id]
      protocol      = "tcp"
      ports         = ["5432"]
      bidirectional = false
    }
  }
}

terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

resource "wattle_group" "other" {
  name = "other"
}

resource "wattle_nameserver_group" "example" {
  name    = "example"
  domains = ["corp.example.org"]
  groups  = [wattle_group.other.id]
  nameservers = [{
    ip = "100.64.0.101"
  }]
}

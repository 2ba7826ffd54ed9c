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
  name        = "example"
  description = "Declared in Terraform."
  domains     = ["corp.example.org"]
  enabled     = false
  groups      = [wattle_group.other.id]
  nameservers = [{
    ip = "100.64.0.101"
    }, {
    ip       = "100.64.0.101"
    ns_type  = "tcp"
    port     = 443
    tls_name = "first"
  }]
  search_domains_enabled = true
}

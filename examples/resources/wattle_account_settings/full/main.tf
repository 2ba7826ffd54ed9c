terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

resource "wattle_account_settings" "example" {
  dns_domain            = "one.example.org"
  network_range         = "10.10.0.0/16"
  peer_approval_enabled = true
}

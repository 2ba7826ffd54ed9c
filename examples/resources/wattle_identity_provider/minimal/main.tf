terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

resource "wattle_identity_provider" "example" {
  name      = "example"
  client_id = "first"
  issuer    = "https://login.example.org/realms/main"
  type      = "oidc"
}

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
  issuer    = "https://0"
  type      = "oidc"
}

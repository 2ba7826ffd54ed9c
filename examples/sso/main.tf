# People sign in with the accounts that they have: an OpenID Connect provider is
# declared, and the groups in its tokens become groups of the network.

terraform {
  required_version = ">= 1.11"
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

provider "wattle" {}

variable "client_secret" {
  type        = string
  description = "The secret of the client that was registered at the provider. It is sent once and stands in no state."
  ephemeral   = true
}

resource "wattle_identity_provider" "company" {
  name      = "company"
  type      = "keycloak"
  issuer    = "https://login.example.org/realms/company"
  client_id = "wattle"

  # Write-only: raise the version to send a new secret.
  client_secret_wo         = var.client_secret
  client_secret_wo_version = 1
}

# Only people of these groups get in, and their machines ask for a new login
# every week.
resource "wattle_account_settings" "sso" {
  jwt_groups_enabled            = true
  jwt_groups_claim_name         = "groups"
  jwt_allow_groups              = ["employees"]
  user_approval_required        = false
  peer_login_expiration_enabled = true
  peer_login_expiration         = 604800
}

# An administrator from the first day; everybody else is an ordinary user.
resource "wattle_user" "admin" {
  email = "admin@example.org"
  role  = "admin"
}

# A service user for a pipeline: it may read everything and change groups, policies and keys, but neither users nor
# settings.
#
# The provider reads the profile that `wattle-server up` writes, or WATTLE_URL and WATTLE_TOKEN.
terraform {
  required_version = ">= 1.11"
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

provider "wattle" {}

resource "wattle_user" "pipeline" {
  name            = "pipeline"
  role            = "network_admin"
  is_service_user = true
}

# A token for a program outside Terraform has to live longer than a run. It stands in the state, visibly; a token for
# the run alone is made by `ephemeral "wattle_token"`, which takes the same arguments and revokes it at the end.
resource "wattle_token" "pipeline" {
  user_id        = wattle_user.pipeline.id
  name           = "pipeline"
  expires_in     = 90
  token_in_state = true
}

output "token" {
  value     = wattle_token.pipeline.token
  sensitive = true
}

terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

resource "wattle_user" "other" {
  is_service_user = true
}

resource "wattle_token" "example" {
  name       = "example"
  expires_in = 90
  user_id    = wattle_user.other.id
}

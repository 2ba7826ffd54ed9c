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
  expires_in = 2
  name       = "example"
  user_id    = wattle_user.other.id
}

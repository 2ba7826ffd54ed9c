terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

data "wattle_users" "all" {}

resource "wattle_token" "example" {
  name       = "example"
  expires_in = 90
  user_id    = data.wattle_users.all.users[0].id
}

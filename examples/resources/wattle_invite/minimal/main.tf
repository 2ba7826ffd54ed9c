terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

resource "wattle_invite" "example" {
  email = "ada@example.org"
}

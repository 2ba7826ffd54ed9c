terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

resource "wattle_posture_check" "example" {
  name = "example"
  agent_version_check = {
    min_version = "1.2.3"
  }
}

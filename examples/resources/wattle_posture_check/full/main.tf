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
  description = "Declared in Terraform."
  geo_location_check = {
    action = "allow"
    locations = [{
      country_code = "DE"
    }]
  }
  os_version_check = {
    android = {
      min_version = "1.2.3"
    }
  }
  peer_network_range_check = {
    action = "allow"
    ranges = ["10.10.0.0/16"]
  }
  process_check = {
    processes = [{
      linux_path = "/usr/bin/guard"
    }]
  }
}

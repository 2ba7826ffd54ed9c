terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

resource "wattle_group" "other" {
  name = "other"
}

resource "wattle_account_settings" "example" {
  auto_update_version                    = "0.0.0"
  dns_domain                             = "one.example.org"
  groups_propagation_enabled             = true
  jwt_allow_groups                       = ["first"]
  jwt_groups_claim_name                  = "first"
  jwt_groups_enabled                     = true
  key_rotation_days                      = 10
  lazy_connection_enabled                = true
  network_range                          = "10.10.0.0/16"
  network_traffic_logs_enabled           = true
  network_traffic_logs_groups            = [wattle_group.other.id]
  network_traffic_packet_counter_enabled = true
  peer_approval_enabled                  = true
  peer_expose_groups                     = [wattle_group.other.id]
  peer_inactivity_expiration             = 10
  peer_inactivity_expiration_enabled     = true
  peer_login_expiration                  = 3600
  peer_login_expiration_enabled          = true
  post_quantum_mode                      = "off"
  regular_users_view_blocked             = true
  routing_peer_dns_resolution_enabled    = true
  user_approval_required                 = true
}

# Names that mean something else inside the network: an internal zone that the
# agents answer themselves, a domain that the office's own servers answer, and
# everything else where it was answered before. The agent makes itself the name
# server of its machine, through systemd-resolved, NetworkManager or resolvconf
# where they manage it; `wattle dns status` shows what was set.

terraform {
  required_version = ">= 1.11"
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

provider "wattle" {}

resource "wattle_group" "staff" {
  name = "staff"
}

resource "wattle_group" "printers" {
  name = "printers"
}

# Answered by each machine of the group itself: no server, no port to open.
resource "wattle_dns_zone" "internal" {
  name                 = "internal"
  domain               = "internal.example.org"
  enable_search_domain = true
  distribution_groups  = [wattle_group.staff.id]
}

resource "wattle_dns_record" "git" {
  zone_id = wattle_dns_zone.internal.id
  name    = "git.internal.example.org"
  type    = "A"
  content = "10.10.0.20"
  ttl     = 300
}

resource "wattle_dns_record" "code" {
  zone_id = wattle_dns_zone.internal.id
  name    = "code.internal.example.org"
  type    = "CNAME"
  content = "git.internal.example.org"
}

# Asked for their own domain only; nothing else leaves for them. They may lie
# behind a routing peer. With `ns_type = "tls"` and `port = 853` they are asked
# over TLS; while none of them answers, names of the domain fail and are not asked
# of anybody else.
resource "wattle_nameserver_group" "office" {
  name        = "office"
  description = "The domain controllers answer for corp.example.org."

  nameservers = [
    { ip = "10.10.0.2" },
    { ip = "10.10.0.3" },
  ]

  domains                = ["corp.example.org"]
  search_domains_enabled = true
  groups                 = [wattle_group.staff.id]
}

# Machines whose resolver must be left alone.
resource "wattle_dns_settings" "all" {
  disabled_management_groups = [wattle_group.printers.id]
}

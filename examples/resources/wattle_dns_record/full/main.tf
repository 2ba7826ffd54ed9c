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

resource "wattle_dns_zone" "other" {
  distribution_groups = [wattle_group.other.id]
  domain              = "one.example.org"
  name                = "other"
}

resource "wattle_dns_record" "example" {
  name    = "db.one.example.org"
  content = "192.0.2.10"
  ttl     = 60
  type    = "A"
  zone_id = wattle_dns_zone.other.id
}

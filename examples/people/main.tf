# People: who they are and what they may, and the links with which they come in.
#
# The user says role and groups, which can change at any time; the invite only lets the person in and stays as a record
# afterwards, so that a plan is empty before and after. `terraform apply -replace='wattle_invite.person["ada@example.org"]'`
# makes a new link.
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

locals {
  people = {
    "ada@example.org" = { role = "network_admin", groups = ["engineers"] }
    "bob@example.org" = { role = "user", groups = ["engineers", "support"] }
  }
}

resource "wattle_group" "team" {
  for_each = toset(flatten(values(local.people)[*].groups))

  name = each.key
}

resource "wattle_user" "person" {
  for_each = local.people

  email       = each.key
  role        = each.value.role
  auto_groups = [for name in each.value.groups : wattle_group.team[name].id]
}

# A link has to reach its person, so it stands in the state, visibly; without invite_token_in_state it is shown nowhere,
# and `POST /api/users/invites/{id}/regenerate` makes one by hand.
resource "wattle_invite" "person" {
  for_each = wattle_user.person

  email                 = each.value.email
  expires_in            = 604800 # a week
  invite_token_in_state = true
}

output "links" {
  description = "The part of POST /api/invites/{link}/accept that each person needs; see terraform output -json links."
  value       = { for email, invite in wattle_invite.person : email => invite.invite_token }
  sensitive   = true
}

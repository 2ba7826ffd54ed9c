terraform {
  required_providers {
    wattle = {
      source = "wattlenet/wattle"
    }
  }
}

variable "groups" {
  description = "Names of the groups to make."
  type        = set(string)
}

variable "allow" {
  description = "What is allowed, by name: from groups to groups, on TCP ports."
  type = map(object({
    from  = set(string)
    to    = set(string)
    ports = set(string)
  }))

  validation {
    condition     = alltrue([for a in values(var.allow) : length(a.ports) > 0])
    error_message = "Name at least one port."
  }
}

resource "wattle_group" "this" {
  for_each = var.groups
  name     = each.key
}

resource "wattle_policy" "this" {
  for_each = var.allow
  name     = each.key

  rules = {
    "tcp" = {
      protocol      = "tcp"
      bidirectional = false
      ports         = each.value.ports
      sources       = [for name in each.value.from : wattle_group.this[name].id]
      destinations  = [for name in each.value.to : wattle_group.this[name].id]
    }
  }
}

output "group_ids" {
  description = "The ids of the groups by name."
  value       = { for name, group in wattle_group.this : name => group.id }
}

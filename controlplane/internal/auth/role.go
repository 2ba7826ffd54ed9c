package auth

import "strings"

// Can reports whether the principal holds a permission such as groups:update.
// The server itself may do everything; an agent and nobody may do nothing.
func (p Principal) Can(permission string) bool {
	switch p.Kind {
	case KindSystem:
		return true
	case KindUser, KindServiceUser:
		return roleGrants(p.Role, permission)
	default:
		return false
	}
}

func roleGrants(role, permission string) bool {
	noun, action, ok := strings.Cut(permission, ":")
	if !ok {
		return false
	}
	for _, granted := range roles[role] {
		grantedNoun, grantedAction, _ := strings.Cut(granted, ":")
		if (grantedNoun == "*" || grantedNoun == noun) && (grantedAction == "*" || grantedAction == action) {
			return true
		}
	}
	return false
}

// roles is x-roles of the contract.
var roles = map[string][]string{
	"owner":         {"*:*"},
	"admin":         {"*:*"},
	"network_admin": {"accounts:read", "users:read", "groups:*", "policies:*", "setup_keys:*", "peers:*", "events:read"},
	"auditor":       {"*:read"},
	"user":          {},
}

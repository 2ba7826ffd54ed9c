package auth

import (
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

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

// The roles that have rules of their own besides their permissions.
const (
	RoleOwner = "owner"
	RoleAdmin = "admin"
	RoleUser  = "user"
)

// Restricted reports whether the principal sees only what is its own.
func (p Principal) Restricted() bool {
	return (p.Kind == KindUser || p.Kind == KindServiceUser) && p.Role == RoleUser
}

func roleGrants(role, permission string) bool {
	noun, action, ok := strings.Cut(permission, ":")
	if !ok {
		return false
	}
	for _, granted := range api.RolePermissions[role] {
		grantedNoun, grantedAction, _ := strings.Cut(granted, ":")
		if (grantedNoun == "*" || grantedNoun == noun) && (grantedAction == "*" || grantedAction == action) {
			return true
		}
	}
	return false
}

// Authorize decides whether the principal may call an operation. It is the
// only place that does. It returns a problem of kind unauthenticated when the
// operation asks for another kind of credential, and forbidden when the role
// lacks the permission.
func Authorize(p Principal, operation api.Operation) error {
	switch operation.Credential {
	case api.NoCredential:
		return nil
	case api.AgentCredential:
		if p.Kind != KindAgent {
			return problem.Unauthenticated(problem.KindUnauthenticated,
				"this operation is for enrolled machines; sign the request with the machine key")
		}
		return nil
	case api.UserCredential:
		if p.Kind != KindUser && p.Kind != KindServiceUser {
			return problem.Unauthenticated(problem.KindUnauthenticated,
				"this operation is for users; send an access token as \"Authorization: Token wtp_...\"")
		}
		if operation.Permission == api.PermissionSelf || p.Can(operation.Permission) {
			return nil
		}
	}
	// An unknown kind of credential ends here too: what is not named is denied.
	return problem.Forbidden(operation.Permission)
}

package state

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// ListUsers lists the people and service users of the account.
func (s *State) ListUsers(_ context.Context, p auth.Principal, params api.ListUsersParams) (items []api.User, next string, err error) {
	err = s.reading(p, func(a *account) error {
		items, next, err = list(&a.users, page{params.Ids, params.Limit, params.Cursor}, any1, func(u store.User) api.User { return showUser(u, p) })
		return err
	})
	return items, next, err
}

// GetUser reads a user.
func (s *State) GetUser(_ context.Context, p auth.Principal, id string) (answer api.User, err error) {
	err = s.reading(p, func(a *account) error {
		u, ok := a.users.get(id)
		if !ok {
			return problem.NotFound("user")
		}
		answer = showUser(u, p)
		return nil
	})
	return answer, err
}

func showUser(u store.User, p auth.Principal) api.User {
	status := api.UserStatusActive
	if u.IsBlocked {
		status = api.UserStatusBlocked
	}
	return api.User{
		Id: u.ID, Email: u.Email, Name: u.Name, Role: api.UserRole(u.Role), Status: status, AutoGroups: []string{}, IsCurrent: u.ID == p.ID,
		IsServiceUser: u.IsServiceUser, IsBlocked: u.IsBlocked, Issued: api.UserIssuedApi, LastLogin: u.LastLogin, Version: u.Version,
	}
}

// GetCurrentUser reads the caller with the permissions of the role.
func (s *State) GetCurrentUser(_ context.Context, p auth.Principal) (answer api.CurrentUser, err error) {
	err = s.reading(p, func(a *account) error {
		u, ok := a.users.get(p.ID)
		if !ok {
			return problem.Unauthenticated(problem.KindUnauthenticated, "the user of these credentials was removed")
		}
		shown := showUser(u, p)
		p.Role = u.Role
		answer = api.CurrentUser{
			Id: shown.Id, Email: shown.Email, Name: shown.Name, Role: api.CurrentUserRole(shown.Role), Status: api.CurrentUserStatus(shown.Status),
			AutoGroups: shown.AutoGroups, IsCurrent: true, IsServiceUser: shown.IsServiceUser, IsBlocked: shown.IsBlocked,
			Issued: api.CurrentUserIssued(shown.Issued), LastLogin: shown.LastLogin, Permissions: permissions(p),
		}
		return nil
	})
	return answer, err
}

// permissions says for each noun of the contract what the role allows.
func permissions(p auth.Principal) api.Permissions {
	modules := map[string]api.PermissionModule{}
	for _, noun := range nouns() {
		modules[noun] = api.PermissionModule{
			Create: p.Can(noun + ":create"), Read: p.Can(noun + ":read"), Update: p.Can(noun + ":update"), Delete: p.Can(noun + ":delete"),
		}
	}
	return api.Permissions{IsRestricted: len(api.RolePermissions[p.Role]) == 0, Modules: modules}
}

func nouns() []string {
	set := map[string]bool{}
	for _, operation := range api.Operations {
		if noun, _, ok := strings.Cut(operation.Permission, ":"); ok {
			set[noun] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

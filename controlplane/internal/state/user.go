package state

import (
	"cmp"
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
		fits := func(u store.User) bool {
			switch {
			case p.Restricted() && u.ID != p.ID,
				params.Name != nil && u.Name != *params.Name,
				params.Email != nil && (u.Email == "" || u.Email != *params.Email),
				params.ServiceUser != nil && u.IsServiceUser != *params.ServiceUser:
				return false
			}
			return true
		}
		items, next, err = list(&a.users, page{params.Ids, params.Limit, params.Cursor}, fits, func(u store.User) api.User { return a.showUser(u, p) })
		return err
	})
	return items, next, err
}

// GetUser reads a user.
func (s *State) GetUser(_ context.Context, p auth.Principal, id string) (answer api.User, err error) {
	err = s.reading(p, func(a *account) error {
		u, ok := a.users.get(id)
		if !ok || p.Restricted() && id != p.ID {
			return problem.NotFound("user")
		}
		answer = a.showUser(u, p)
		return nil
	})
	return answer, err
}

func (a *account) showUser(u store.User, p auth.Principal) api.User {
	status := api.UserStatusActive
	switch {
	case u.IsBlocked:
		status = api.UserStatusBlocked
	case u.Invited:
		status = api.UserStatusInvited
	}
	return api.User{
		Id: u.ID, Email: u.Email, Name: u.Name, Role: api.UserRole(u.Role), Status: status, AutoGroups: groupList(u.AutoGroups), IsCurrent: u.ID == p.ID,
		IsServiceUser: u.IsServiceUser, IsBlocked: u.IsBlocked, Issued: api.UserIssuedApi, LastLogin: u.LastLogin, ManagedBy: a.managedBy(u.ID), Version: u.Version,
	}
}

func groupList(ids []string) []string { return append([]string{}, ids...) }

// GetCurrentUser reads the caller with the permissions of the role.
func (s *State) GetCurrentUser(_ context.Context, p auth.Principal) (answer api.CurrentUser, err error) {
	err = s.reading(p, func(a *account) error {
		u, ok := a.users.get(p.ID)
		if !ok {
			return problem.Unauthenticated(problem.KindUnauthenticated, "the user of these credentials was removed")
		}
		shown := a.showUser(u, p)
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
	return api.Permissions{IsRestricted: p.Restricted(), Modules: modules}
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

// CreateUser makes a service user, or a person, who stays invited until the
// first login. A taken e-mail address is a conflict.
func (s *State) CreateUser(ctx context.Context, p auth.Principal, req api.UserRequest) (answer api.User, err error) {
	req.ApplyDefaults()
	var id string
	err = s.write(ctx, p, api.PermissionUsersCreate, func(w *write) error {
		role := string(*req.Role)
		if err := w.ownersOnly(role); err != nil {
			return err
		}
		groups, err := w.autoGroups(*req.AutoGroups, false)
		if err := together(checkUser(req), err); err != nil {
			return err
		}
		email, _ := req.Email.Get() // absent and null are none
		if err := w.freeEmail(email); err != nil {
			return err
		}
		u := store.User{
			ID: newID(), AccountID: w.account.ID, Seq: w.seq(), Email: email, Role: role, IsServiceUser: *req.IsServiceUser,
			IsBlocked: *req.IsBlocked, Invited: !*req.IsServiceUser, AutoGroups: groups, CreatedAt: w.now, Version: 1,
		}
		if req.Name != nil {
			u.Name = *req.Name
		}
		id = u.ID
		w.change(change{User: &u})
		if err := store.Users.Insert(w.ctx, w.tx, &u); err != nil {
			return err
		}
		if err := w.userRefs(u); err != nil {
			return err
		}
		return w.note("user.create", id, userName(u), nil, userAudit(u))
	}, func(a *account) { answer = a.showUser(a.users.byID[id], p) })
	return answer, err
}

// checkUser applies the rules by which people and service users differ, beside
// those of the contract.
func checkUser(req api.UserRequest) error {
	var more []problem.FieldError
	if *req.IsServiceUser && *req.Role == api.UserRequestRoleOwner {
		more = append(more, problem.Field("role", "a service user cannot be owner"))
	}
	return faults(req.Validate(), more...)
}

func (w *write) freeEmail(email string) error {
	if email == "" {
		return nil
	}
	holder, err := store.UserWithEmail(w.ctx, w.tx, w.account.ID, email)
	if err == nil && holder != "" {
		return problem.Conflict("user", "email", email)
	}
	return err
}

// ownersOnly keeps everybody else away from owners. The role of the caller was
// read in this transaction.
func (w *write) ownersOnly(role string) error {
	if role != auth.RoleOwner || w.p.Role == auth.RoleOwner || w.p.Kind == auth.KindSystem {
		return nil
	}
	return problem.Denied("only an owner makes, changes or deletes an owner")
}

// lastOwner refuses to take away an owner when there is no other one.
func (w *write) lastOwner(u store.User, field string) error {
	if u.Role != auth.RoleOwner || u.IsBlocked {
		return nil
	}
	others, err := store.CountOwners(w.ctx, w.tx, w.account.ID, u.ID)
	if err == nil && others == 0 {
		return problem.Invalid(problem.Field(field, "%s is the last owner and stays one; make another owner first", userName(u)))
	}
	return err
}

// user reads a user that the caller may change, at the version that it knows.
func (w *write) user(id, ifMatch string) (store.User, error) {
	u, err := store.FindUser(w.ctx, w.tx, w.account.ID, id)
	if u, err = found(u, err, "user"); err != nil {
		return u, err
	}
	if err := w.ownersOnly(u.Role); err != nil {
		return u, err
	}
	return u, checkMatch(ifMatch, "user", u.Version)
}

func (w *write) userRefs(u store.User) error {
	refs := make([]store.Ref, len(u.AutoGroups))
	for i, id := range u.AutoGroups {
		refs[i] = store.Ref{Field: "auto_groups", ToKind: store.KindGroup, ToID: id}
	}
	return store.SetRefs(w.ctx, w.tx, w.account.ID, store.KindUser, u.ID, refs)
}

// UpdateUser changes role, automatic groups, blocking and name of a user. The
// roles of both sides, the rules and the write are one transaction.
func (s *State) UpdateUser(ctx context.Context, p auth.Principal, id string, req api.UserUpdate, ifMatch string) (answer api.User, err error) {
	err = s.write(ctx, p, api.PermissionUsersUpdate, func(w *write) error {
		was, err := w.user(id, ifMatch)
		if err != nil {
			return err
		}
		if req.AutoGroups == nil {
			return problem.Malformed("auto_groups must be given; send [] for none", problem.Field("auto_groups", "must be given"))
		}
		fixed := append(unchanged("email", req.Email, was.Email), unchanged("is_service_user", req.IsServiceUser, was.IsServiceUser)...)
		u := was
		u.Role, u.IsBlocked = string(req.Role), req.IsBlocked
		if req.Name.IsSpecified() {
			u.Name, _ = req.Name.Get() // null is no name
		}
		u.AutoGroups, err = w.autoGroups(req.AutoGroups, false)
		if err := together(faults(req.Validate(), fixed...), w.checkRole(was, u), err); err != nil {
			return err
		}
		if u.Role == was.Role && u.IsBlocked == was.IsBlocked && u.Name == was.Name && slices.Equal(u.AutoGroups, was.AutoGroups) {
			return errUnchanged
		}
		u.Version++
		w.change(change{User: &u})
		if err := store.Users.Update(w.ctx, w.tx, &u); err != nil {
			return err
		}
		if err := w.userRefs(u); err != nil {
			return err
		}
		return w.note("user.update", id, userName(u), userAudit(was), userAudit(u))
	}, func(a *account) { answer = a.showUser(a.users.byID[id], p) })
	return answer, err
}

// checkRole applies the rules of roles and blocking to a change of a user.
func (w *write) checkRole(was, u store.User) error {
	if err := w.ownersOnly(u.Role); err != nil {
		return err
	}
	switch {
	case u.ID == w.p.ID && u.Role != was.Role:
		return problem.Denied("nobody changes the own role; ask another owner or admin")
	case u.ID == w.p.ID && u.IsBlocked && !was.IsBlocked:
		return problem.Denied("nobody blocks itself; ask another owner or admin")
	case u.IsServiceUser && u.Role == auth.RoleOwner:
		return problem.Invalid(problem.Field("role", "a service user cannot be owner"))
	case u.Role != auth.RoleOwner:
		return w.lastOwner(was, "role")
	case u.IsBlocked:
		return w.lastOwner(was, "is_blocked")
	}
	return nil
}

// DeleteUser removes a user with all tokens.
func (s *State) DeleteUser(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return s.write(ctx, p, api.PermissionUsersDelete, func(w *write) error {
		u, err := w.user(id, ifMatch)
		if err != nil {
			return err
		}
		if id == w.p.ID {
			return problem.Invalid(problem.Field("", "nobody deletes itself; ask another owner or admin"))
		}
		if err := w.lastOwner(u, ""); err != nil {
			return err
		}
		tokens, err := store.UserTokens(w.ctx, w.tx, w.account.ID, id)
		if err != nil {
			return err
		}
		for _, t := range tokens {
			w.change(change{Token: &t, Remove: true})
			if err := store.Tokens.Delete(w.ctx, w.tx, t.ID); err != nil {
				return err
			}
		}
		if u.Email != "" {
			if err := w.removeInvites(u.Email); err != nil { // nobody comes back by a link
				return err
			}
		}
		if err := store.SetRefs(w.ctx, w.tx, w.account.ID, store.KindUser, id, nil); err != nil {
			return err
		}
		w.change(change{User: &u, Remove: true})
		if err := store.Users.Delete(w.ctx, w.tx, id); err != nil {
			return err
		}
		return w.note("user.delete", id, userName(u), userAudit(u), nil)
	}, func(*account) {})
}

// userName is how texts call a user.
func userName(u store.User) string { return cmp.Or(u.Name, u.Email, u.ID) }

func userAudit(u store.User) map[string]any {
	return map[string]any{
		"email": u.Email, "name": u.Name, "role": u.Role, "auto_groups": u.AutoGroups, "is_service_user": u.IsServiceUser, "is_blocked": u.IsBlocked,
	}
}

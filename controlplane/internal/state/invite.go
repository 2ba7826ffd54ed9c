package state

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal/hash"
	"github.com/wattlenet/wattle/controlplane/internal/seal/token"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

func (a *account) showInvite(i store.Invite) api.Invite {
	return api.Invite{
		Id: i.ID, Email: i.Email, Name: i.Name, Role: api.InviteRole(i.Role), AutoGroups: a.groupsLeft(i.AutoGroups), CreatedBy: i.CreatedBy,
		CreatedAt: i.CreatedAt, ExpiresIn: i.ExpiresIn, ExpiresAt: i.ExpiresAt, Expired: expired(i), Accepted: accepted(i), ManagedBy: a.managedBy(i.ID), Version: i.Version,
	}
}

func (a *account) showNewInvite(i store.Invite, secret string) api.InviteCreated {
	v := a.showInvite(i)
	return api.InviteCreated{
		Id: v.Id, Email: v.Email, Name: v.Name, Role: api.InviteCreatedRole(v.Role), AutoGroups: v.AutoGroups, CreatedBy: v.CreatedBy,
		CreatedAt: v.CreatedAt, ExpiresIn: v.ExpiresIn, ExpiresAt: v.ExpiresAt, Expired: v.Expired, Accepted: v.Accepted, ManagedBy: v.ManagedBy, Version: v.Version, InviteToken: secret,
	}
}

// groupsLeft are the groups among those of an invite that are still there: an
// accepted one, or one for a person who has groups already, keeps none of them.
func (a *account) groupsLeft(ids []string) []string {
	return slices.DeleteFunc(slices.Clone(groupList(ids)), func(id string) bool {
		_, there := a.groups.get(id)
		return !there
	})
}

func expired(i store.Invite) bool { return !accepted(i) && !now().Before(i.ExpiresAt) }

func accepted(i store.Invite) bool { return !i.AcceptedAt.IsZero() }

// ListInvites lists the invites that nobody accepted yet.
func (s *State) ListInvites(_ context.Context, p auth.Principal, params api.ListInvitesParams) (items []api.Invite, next string, err error) {
	err = s.reading(p, func(a *account) error {
		fits := func(i store.Invite) bool {
			return !accepted(i) && (params.Name == nil || i.Name == *params.Name) && (params.Email == nil || i.Email == *params.Email)
		}
		items, next, err = list(&a.invites, page{params.Ids, params.Limit, params.Cursor}, fits, a.showInvite)
		return err
	})
	return items, next, err
}

// GetInvite reads an invite, also one that was accepted.
func (s *State) GetInvite(_ context.Context, p auth.Principal, id string) (answer api.Invite, err error) {
	err = s.reading(p, func(a *account) error {
		i, ok := a.invites.get(id)
		if !ok {
			return problem.NotFound("invite")
		}
		answer = a.showInvite(i)
		return nil
	})
	return answer, err
}

// CreateInvite makes an invite; an earlier one for the same address ends. The
// answer holds the secret. Who has signed in already is a conflict. The invite of
// a person who is there keeps what that person has.
func (s *State) CreateInvite(ctx context.Context, p auth.Principal, req api.InviteRequest) (answer api.InviteCreated, err error) {
	req.ApplyDefaults()
	if err := faults(req.Validate()); err != nil {
		return answer, err
	}
	var id string
	var secret token.Secret
	err = s.write(ctx, p, api.PermissionInvitesCreate, func(w *write) error {
		i, given, err := w.wantInvite(req)
		if err != nil {
			return err
		}
		if err := w.ownersOnly(i.Role); err != nil {
			return err
		}
		if err := w.removeInvites(i.Email); err != nil {
			return err
		}
		made, err := w.insertInvite(&i, given)
		if err != nil {
			return err
		}
		id, secret, w.shownOnce = i.ID, made, made.Reveal()
		return w.note("invite.create", id, i.Email, nil, inviteAudit(i))
	}, func(a *account) { answer = a.showNewInvite(a.invites.byID[id], secret.Reveal()) })
	return answer, err
}

// wantInvite decides for whom an invite is, and which groups it gives: none to
// a person who is there already with groups of its own.
func (w *write) wantInvite(req api.InviteRequest) (i store.Invite, gives []string, err error) {
	i = store.Invite{ID: newID(), AccountID: w.account.ID, Email: req.Email, Role: auth.RoleUser, CreatedBy: w.p.ID, ExpiresIn: *req.ExpiresIn}
	if req.Name != nil {
		i.Name = *req.Name
	}
	if req.AutoGroups != nil {
		if i.AutoGroups, err = w.autoGroups(*req.AutoGroups, false); err != nil {
			return i, nil, err
		}
	}
	there, known, err := w.person(req.Email)
	if err != nil {
		return i, nil, err
	}
	if !known {
		if req.Role != nil {
			i.Role = string(*req.Role)
		}
		return i, i.AutoGroups, nil
	}
	if !there.Invited {
		return i, nil, problem.Conflict("user", "email", req.Email)
	}
	var differs []problem.FieldError
	if req.Role != nil && string(*req.Role) != there.Role {
		differs = append(differs, problem.Field("role", "%s is there already with the role %s; leave it out, or change the user", req.Email, there.Role))
	}
	if req.AutoGroups != nil && !sameSet(i.AutoGroups, there.AutoGroups) {
		differs = append(differs, problem.Field("auto_groups", "%s is there already with other groups; leave them out, or change the user", req.Email))
	}
	i.Role, i.AutoGroups = there.Role, there.AutoGroups
	if req.Name == nil {
		i.Name = there.Name
	}
	return i, nil, faults(nil, differs...)
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// person finds the person with an e-mail address.
func (w *write) person(email string) (u store.User, known bool, err error) {
	id, err := store.UserWithEmail(w.ctx, w.tx, w.account.ID, email)
	if err != nil || id == "" {
		return u, false, err
	}
	u, err = store.FindUser(w.ctx, w.tx, w.account.ID, id)
	return u, true, err
}

// insertInvite makes an invite that gives these groups.
func (w *write) insertInvite(i *store.Invite, groups []string) (token.Secret, error) {
	secret := token.New(token.Invite)
	sum := secret.Sum()
	i.Seq, i.SHA256, i.CreatedAt, i.ExpiresAt, i.Version = w.seq(), sum[:], w.now, w.now.Add(time.Duration(i.ExpiresIn)*time.Second), 1
	w.change(change{Invite: i})
	if err := store.Invites.Insert(w.ctx, w.tx, i); err != nil {
		return secret, err
	}
	refs := make([]store.Ref, len(groups))
	for n, group := range groups {
		refs[n] = store.Ref{Field: "auto_groups", ToKind: store.KindGroup, ToID: group}
	}
	return secret, store.SetRefs(w.ctx, w.tx, w.account.ID, store.KindInvite, i.ID, refs)
}

// removeInvites removes every invite for an e-mail address.
func (w *write) removeInvites(email string) error {
	list, err := store.InvitesTo(w.ctx, w.tx, w.account.ID, email)
	if err != nil {
		return err
	}
	for _, i := range list {
		if err := w.removeInvite(i); err != nil {
			return err
		}
	}
	return nil
}

func (w *write) removeInvite(i store.Invite) error {
	w.change(change{Invite: &i, Remove: true})
	if err := store.SetRefs(w.ctx, w.tx, w.account.ID, store.KindInvite, i.ID, nil); err != nil {
		return err
	}
	return store.Invites.Delete(w.ctx, w.tx, i.ID)
}

// invite reads an invite that the caller may change.
func (w *write) invite(id, ifMatch string) (store.Invite, error) {
	i, err := store.FindInvite(w.ctx, w.tx, w.account.ID, id)
	if i, err = found(i, err, "invite"); err != nil {
		return i, err
	}
	if err := w.ownersOnly(i.Role); err != nil {
		return i, err
	}
	return i, checkMatch(ifMatch, "invite", i.Version)
}

// RegenerateInvite makes a new link for an invite; the earlier one ends.
func (s *State) RegenerateInvite(ctx context.Context, p auth.Principal, id string, req api.InviteRegenerateRequest) (answer api.InviteRegenerated, err error) {
	req.ApplyDefaults()
	if err := faults(req.Validate()); err != nil {
		return answer, err
	}
	var secret token.Secret
	err = s.write(ctx, p, api.PermissionInvitesUpdate, func(w *write) error {
		was, err := w.invite(id, "")
		switch {
		case err != nil:
			return err
		case accepted(was):
			return problem.Precondition(was.Email + " accepted the invite at " + was.AcceptedAt.Format(time.RFC3339) + " and needs no link")
		}
		i := was
		secret = token.New(token.Invite)
		sum := secret.Sum()
		i.SHA256, i.ExpiresAt, i.Version = sum[:], w.now.Add(time.Duration(*req.ExpiresIn)*time.Second), was.Version+1
		w.shownOnce = secret.Reveal()
		w.change(change{Invite: &was, Remove: true}) // forgets the earlier secret
		w.change(change{Invite: &i})
		if err := store.Invites.Update(w.ctx, w.tx, &i); err != nil {
			return err
		}
		return w.note("invite.regenerate", id, i.Email, inviteAudit(was), inviteAudit(i))
	}, func(a *account) { answer = showNewLink(a.invites.byID[id], secret.Reveal()) })
	return answer, err
}

func showNewLink(i store.Invite, secret string) api.InviteRegenerated {
	return api.InviteRegenerated{InviteToken: secret, InviteExpiresAt: i.ExpiresAt}
}

// DeleteInvite takes an invite back.
func (s *State) DeleteInvite(ctx context.Context, p auth.Principal, id, ifMatch string) error {
	return s.write(ctx, p, api.PermissionInvitesDelete, func(w *write) error {
		i, err := w.invite(id, ifMatch)
		if err != nil {
			return err
		}
		if err := w.removeInvite(i); err != nil {
			return err
		}
		return w.note("invite.delete", id, i.Email, inviteAudit(i), nil)
	}, func(*account) {})
}

// invited finds the account of an invite by its secret; not found for any text
// that is no secret of one.
func (s *State) invited(text string) (a *account, sum [32]byte, err error) {
	secret, err := token.Parse(token.Invite, text)
	if err != nil {
		return nil, sum, problem.NotFound("invite")
	}
	sum = secret.Sum()
	s.mu.RLock()
	a = s.accounts[s.invites[sum]]
	s.mu.RUnlock()
	if a == nil {
		return nil, sum, problem.NotFound("invite")
	}
	return a, sum, nil
}

// GetInviteInfo tells whom an invite is for to whoever has its secret.
func (s *State) GetInviteInfo(ctx context.Context, text string) (answer api.InviteInfo, err error) {
	a, sum, err := s.invited(text)
	if err != nil {
		return answer, err
	}
	var i store.Invite
	err = s.store.Read(ctx, func(tx *store.Tx) (err error) {
		i, err = store.FindInviteBySecret(ctx, tx, sum[:])
		return err
	})
	if i, err = found(i, err, "invite"); err != nil {
		return answer, asProblem(err)
	}
	answer = api.InviteInfo{Email: i.Email, Name: i.Name, ExpiresAt: i.ExpiresAt, Valid: !expired(i)}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if by, ok := a.users.get(i.CreatedBy); ok {
		answer.InvitedBy = userName(by)
	}
	return answer, nil
}

// AcceptInvite uses an invite up: the person signs in with the password from now
// on. Of any number of calls with one secret one wins, the others find no invite.
func (s *State) AcceptInvite(ctx context.Context, p auth.Principal, text string, req api.InviteAcceptRequest) (answer api.InviteAccepted, err error) {
	req.ApplyDefaults()
	if err := faults(req.Validate()); err != nil {
		return answer, err
	}
	a, sum, err := s.invited(text)
	if err != nil {
		return answer, err
	}
	password, err := hash.Password(ctx, req.Password)
	if err != nil {
		return answer, fmt.Errorf("hash password: %w", err)
	}
	p = auth.Principal{AccountID: a.id, Channel: p.Channel, RequestID: p.RequestID}
	err = s.write(ctx, p, "", func(w *write) error {
		i, err := store.FindInviteBySecret(w.ctx, w.tx, sum[:])
		if i, err = found(i, err, "invite"); err != nil {
			return err
		}
		if !w.now.Before(i.ExpiresAt) {
			return problem.Precondition("the invite expired at " + i.ExpiresAt.Format(time.RFC3339) + "; ask for a new link")
		}
		u, err := w.welcome(i, req, password)
		if err != nil {
			return err
		}
		answer = api.InviteAccepted{Success: true, UserId: u.ID}
		i.AcceptedAt, i.Version = w.now, i.Version+1
		w.change(change{Invite: &i})
		if err := store.SetRefs(w.ctx, w.tx, w.account.ID, store.KindInvite, i.ID, nil); err != nil { // the groups are the person's now
			return err
		}
		return store.Invites.Update(w.ctx, w.tx, &i)
	}, func(*account) {})
	return answer, err
}

// welcome makes the person of an invite, or wakes the one who is there.
func (w *write) welcome(i store.Invite, req api.InviteAcceptRequest, password string) (u store.User, err error) {
	u, known, err := w.person(i.Email)
	if err != nil {
		return u, err
	}
	switch {
	case known && (!u.Invited || u.IsBlocked):
		return u, problem.Conflict("user", "email", i.Email)
	case !known:
		u = store.User{ID: newID(), AccountID: w.account.ID, Seq: w.seq(), Email: i.Email, Role: i.Role, AutoGroups: i.AutoGroups, CreatedAt: w.now}
	}
	var before any
	if known {
		before = userAudit(u)
	}
	if u.Name == "" || i.Name != "" {
		u.Name = i.Name
	}
	if req.Name != nil && *req.Name != "" {
		u.Name = *req.Name
	}
	u.PasswordHash, u.Invited, u.Version = password, false, u.Version+1
	w.change(change{User: &u})
	keep := store.Users.Insert
	if known {
		keep = store.Users.Update
	}
	if err := keep(w.ctx, w.tx, &u); err != nil {
		return u, err
	}
	w.p.ID, w.p.Name, w.p.Email = u.ID, u.Name, u.Email
	if err := w.userRefs(u); err != nil {
		return u, err
	}
	return u, w.note("invite.accept", u.ID, userName(u), before, userAudit(u))
}

func inviteAudit(i store.Invite) map[string]any {
	return map[string]any{"email": i.Email, "name": i.Name, "role": i.Role, "auto_groups": i.AutoGroups, "expires_at": i.ExpiresAt}
}

package state

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal/hash"
	"github.com/wattlenet/wattle/controlplane/internal/seal/token"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

func TestInviteMakesAPerson(t *testing.T) {
	f := fresh(t)
	web := f.group("web")
	made := must(f.CreateInvite(t.Context(), f.owner, api.InviteRequest{
		Email: "ada@example.org", Name: new("Ada"), Role: new(api.InviteRequestRoleAuditor), AutoGroups: &[]string{"web"},
	}))(t)
	if !strings.HasPrefix(made.InviteToken, "wti_") || made.Role != "auditor" || made.AutoGroups[0] != web.Id || made.CreatedBy != f.owner.ID ||
		made.ExpiresAt.Sub(made.CreatedAt) != 72*time.Hour || made.Expired {
		t.Fatalf("%+v", made)
	}
	refused(t, f.DeleteGroup(t.Context(), f.owner, web.Id, ""), problem.KindInUse, "", `linked to invite "ada@example.org"`)
	info := must(f.GetInviteInfo(t.Context(), made.InviteToken))(t)
	if info.Email != "ada@example.org" || !info.Valid || info.InvitedBy != "Owner" {
		t.Errorf("%+v", info)
	}
	second := must(New(t.Context(), f.cfg))(t) // the link outlives a restart
	accepted := must(second.AcceptInvite(t.Context(), auth.Principal{RequestID: "req-2"}, made.InviteToken, api.InviteAcceptRequest{Password: "correct horse"}))(t)
	ada := must(second.GetUser(t.Context(), f.owner, accepted.UserId))(t)
	if !accepted.Success || ada.Email != "ada@example.org" || ada.Name != "Ada" || ada.Role != "auditor" || ada.Status != "active" || ada.AutoGroups[0] != web.Id {
		t.Errorf("%+v", ada)
	}
	kept := second.accounts[f.owner.AccountID].users.byID[ada.Id]
	if ok := must(hash.Verify(t.Context(), kept.PasswordHash, "correct horse"))(t); !ok {
		t.Error("the password does not verify")
	}
	event := must2(second.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{Limit: new(1)}))(t)[0]
	if event.ActivityCode != "invite.accept" || event.InitiatorId != ada.Id || event.TargetId != ada.Id || event.RequestId != "req-2" {
		t.Errorf("%+v", event)
	}
	if left := must2(second.ListInvites(t.Context(), f.owner, api.ListInvitesParams{}))(t); len(left) != 0 {
		t.Errorf("%+v", left)
	}
	// The invite stays as a record that holds nothing: neither its link nor its groups.
	third := must(New(t.Context(), f.cfg))(t)
	if got := must(third.GetInvite(t.Context(), f.owner, made.Id))(t); !got.Accepted || got.Expired || got.Role != "auditor" || got.ExpiresIn != 259200 || len(third.invites) != 0 {
		t.Errorf("%+v, %d links", got, len(third.invites))
	}
	_, err := third.RegenerateInvite(t.Context(), f.owner, made.Id, api.InviteRegenerateRequest{})
	refused(t, err, problem.KindPrecondition, "", "accepted the invite")
	_, err = second.AcceptInvite(t.Context(), auth.Principal{}, made.InviteToken, api.InviteAcceptRequest{Password: "another horse"})
	refused(t, err, problem.KindNotFound, "", "invite not found")
	_, err = second.CreateInvite(t.Context(), f.owner, api.InviteRequest{Email: "ADA@example.org"})
	refused(t, err, problem.KindConflict, "email", "taken")
}

func TestInviteWakesAnInvitedPerson(t *testing.T) {
	f := fresh(t)
	req := api.UserRequest{Role: new(api.UserRequestRoleAdmin)}
	req.Email.Set("bob@example.org")
	bob := must(f.CreateUser(t.Context(), f.owner, req))(t)
	_, err := f.CreateInvite(t.Context(), f.owner, api.InviteRequest{Email: "bob@example.org", Role: new(api.InviteRequestRoleUser)})
	refused(t, err, problem.KindInvalid, "role", "is there already with the role admin")
	_, err = f.CreateInvite(t.Context(), f.owner, api.InviteRequest{Email: "bob@example.org", AutoGroups: &[]string{f.group("web").Id}})
	refused(t, err, problem.KindInvalid, "auto_groups", "other groups")
	made := must(f.CreateInvite(t.Context(), f.owner, api.InviteRequest{Email: "BOB@example.org"}))(t)
	if made.Email != "BOB@example.org" || made.Role != "admin" { // as it was sent
		t.Errorf("%+v", made)
	}
	accepted := must(f.AcceptInvite(t.Context(), auth.Principal{}, made.InviteToken, api.InviteAcceptRequest{Password: "correct horse", Name: new("Bob")}))(t)
	got := must(f.GetUser(t.Context(), f.owner, bob.Id))(t)
	if accepted.UserId != bob.Id || got.Status != "active" || got.Role != "admin" || got.Name != "Bob" || got.Version != bob.Version+1 {
		t.Errorf("%+v", got)
	}
}

func TestInviteLinks(t *testing.T) {
	f := fresh(t)
	create := func(email string) api.InviteCreated {
		return must(f.CreateInvite(t.Context(), f.owner, api.InviteRequest{Email: email}))(t)
	}
	first := create("ada@example.org")
	second := create("Ada@example.org") // ends the first
	_, err := f.GetInviteInfo(t.Context(), first.InviteToken)
	refused(t, err, problem.KindNotFound, "", "invite not found")
	link := must(f.RegenerateInvite(t.Context(), f.owner, second.Id, api.InviteRegenerateRequest{ExpiresIn: new(3600)}))(t)
	for _, gone := range []string{second.InviteToken, "wti_nonsense", f.network.Token, ""} {
		_, err := f.GetInviteInfo(t.Context(), gone)
		refused(t, err, problem.KindNotFound, "", "invite not found")
	}
	if n := len(f.invites); n != 1 {
		t.Errorf("%d secrets are known, want 1", n)
	}
	if info := must(f.GetInviteInfo(t.Context(), link.InviteToken))(t); !info.Valid || !info.ExpiresAt.Equal(link.InviteExpiresAt) {
		t.Errorf("%+v", info)
	}
	_, err = f.AcceptInvite(t.Context(), auth.Principal{}, link.InviteToken, api.InviteAcceptRequest{Password: "short"})
	refused(t, err, problem.KindInvalid, "password", "8")
	f.expire(second.Id)
	if info := must(f.GetInviteInfo(t.Context(), link.InviteToken))(t); info.Valid {
		t.Error("an expired invite is valid")
	}
	_, err = f.AcceptInvite(t.Context(), auth.Principal{}, link.InviteToken, api.InviteAcceptRequest{Password: "correct horse"})
	refused(t, err, problem.KindPrecondition, "", "expired at")
	if list := must2(f.ListInvites(t.Context(), f.owner, api.ListInvitesParams{}))(t); len(list) != 1 || !list[0].Expired {
		t.Errorf("%+v", list)
	}
	if err := f.DeleteInvite(t.Context(), f.owner, second.Id, ""); err != nil {
		t.Fatal(err)
	}
	refused(t, f.DeleteInvite(t.Context(), f.owner, second.Id, ""), problem.KindNotFound, "", "invite not found")
	_, err = f.RegenerateInvite(t.Context(), f.owner, second.Id, api.InviteRegenerateRequest{})
	refused(t, err, problem.KindNotFound, "", "invite not found")
}

// An invite for a person with groups gives none of its own, and ends with the person.
func TestInviteOfAPersonWithGroups(t *testing.T) {
	f := fresh(t)
	web, db := f.group("web"), f.group("db")
	req := api.UserRequest{AutoGroups: &[]string{web.Id, db.Id}}
	req.Email.Set("bob@example.org")
	bob := must(f.CreateUser(t.Context(), f.owner, req))(t)
	made := must(f.CreateInvite(t.Context(), f.owner, api.InviteRequest{Email: "bob@example.org", AutoGroups: &[]string{db.Id, web.Id}}))(t)
	if len(made.AutoGroups) != 2 {
		t.Errorf("%+v", made)
	}
	must(f.UpdateUser(t.Context(), f.owner, bob.Id, api.UserUpdate{Role: "user", AutoGroups: []string{web.Id}}, ""))(t)
	if err := f.DeleteGroup(t.Context(), f.owner, db.Id, ""); err != nil {
		t.Fatalf("the invite holds a group that it does not give: %v", err)
	}
	if got := must(f.GetInvite(t.Context(), f.owner, made.Id))(t); !slices.Equal(got.AutoGroups, []string{web.Id}) {
		t.Errorf("%+v", got)
	}
	if err := f.DeleteUser(t.Context(), f.owner, bob.Id, ""); err != nil {
		t.Fatal(err)
	}
	_, err := f.GetInviteInfo(t.Context(), made.InviteToken)
	refused(t, err, problem.KindNotFound, "", "invite not found")
	_, err = f.GetInvite(t.Context(), f.owner, made.Id)
	refused(t, err, problem.KindNotFound, "", "invite not found")
}

// expire ends the life of an invite.
func (f *fixture) expire(id string) {
	f.t.Helper()
	err := f.write(f.t.Context(), auth.System(f.owner.AccountID), "", func(w *write) error {
		i, err := w.invite(id, "")
		if err != nil {
			return err
		}
		i.ExpiresAt = w.now
		w.change(change{Invite: &i})
		if err := store.Invites.Update(w.ctx, w.tx, &i); err != nil {
			return err
		}
		return w.note("invite.regenerate", id, i.Email, nil, nil)
	}, func(*account) {})
	if err != nil {
		f.t.Fatal(err)
	}
}

func TestOneAcceptanceWins(t *testing.T) {
	f := fresh(t)
	made := must(f.CreateInvite(t.Context(), f.owner, api.InviteRequest{Email: "ada@example.org"}))(t)
	won := atOnce(10, func(int) error {
		_, err := f.AcceptInvite(t.Context(), auth.Principal{}, made.InviteToken, api.InviteAcceptRequest{Password: "correct horse"})
		return err
	}, func(err error) { refused(t, err, problem.KindNotFound, "", "invite not found") })
	if users := must2(f.ListUsers(t.Context(), f.owner, api.ListUsersParams{}))(t); won != 1 || len(users) != 2 {
		t.Errorf("%d accepted, %d users", won, len(users))
	}
}

func TestWhoMayInvite(t *testing.T) {
	f := fresh(t)
	_, admin := f.person("admin@example.org", "admin")
	owner := api.InviteRequest{Email: "new@example.org", Role: new(api.InviteRequestRoleOwner)}
	_, err := f.CreateInvite(t.Context(), admin, owner)
	refused(t, err, problem.KindForbidden, "", "only an owner")
	made := must(f.CreateInvite(t.Context(), f.owner, owner))(t)
	refused(t, f.DeleteInvite(t.Context(), admin, made.Id, ""), problem.KindForbidden, "", "only an owner")
	_, err = f.RegenerateInvite(t.Context(), admin, made.Id, api.InviteRegenerateRequest{})
	refused(t, err, problem.KindForbidden, "", "only an owner")
	_, other := f.person("user@example.org", "user")
	_, err = f.CreateInvite(t.Context(), other, api.InviteRequest{Email: "x@example.org"})
	refused(t, err, problem.KindForbidden, "", "invites:create")
}

func TestSecretsOfInvitesAreNotKept(t *testing.T) {
	f := fresh(t)
	made := must(f.CreateInvite(t.Context(), f.owner, api.InviteRequest{Email: "ada@example.org"}))(t)
	sum := must(token.Parse(token.Invite, made.InviteToken))(t).Sum()
	for what, holds := range f.dump() {
		for _, secret := range []string{made.InviteToken, b64(sum[:])} {
			if strings.Contains(holds, secret) {
				t.Errorf("%s holds a secret", what)
			}
		}
	}
}

// dump is what the rows of objects and the audit say.
func (f *fixture) dump() map[string]string {
	f.t.Helper()
	out := map[string]string{}
	err := f.store.Read(f.t.Context(), func(tx *store.Tx) error {
		objects, err := store.AccountObjects(f.t.Context(), tx, f.owner.AccountID)
		for _, o := range objects {
			out["object"] += o.Name + o.Body
		}
		if err != nil {
			return err
		}
		events, err := store.AuditFrom(f.t.Context(), tx, f.owner.AccountID, 0, 1000)
		for _, e := range events {
			out["audit"] += e.Meta + e.Before + e.After
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

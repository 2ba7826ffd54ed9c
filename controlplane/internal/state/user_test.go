package state

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// service makes a service user and returns it as one who asks.
func (f *fixture) service(name, role string) (api.User, auth.Principal) {
	f.t.Helper()
	asked := api.UserRequestRole(role)
	u := must(f.CreateUser(f.t.Context(), f.owner, api.UserRequest{Name: &name, Role: &asked, IsServiceUser: new(true)}))(f.t)
	return u, auth.Principal{Kind: auth.KindServiceUser, ID: u.Id, Name: name, Role: role, AccountID: f.owner.AccountID, Channel: auth.ChannelAPI}
}

// person makes a person and returns it as one who asks.
func (f *fixture) person(email, role string) (api.User, auth.Principal) {
	f.t.Helper()
	asked := api.UserRequestRole(role)
	u := must(f.CreateUser(f.t.Context(), f.owner, api.UserRequest{Email: nullable.NewNullableWithValue(email), Role: &asked}))(f.t)
	return u, auth.Principal{Kind: auth.KindUser, ID: u.Id, Email: email, Role: role, AccountID: f.owner.AccountID, Channel: auth.ChannelAPI}
}

// as is the wanted state of a user that changes nothing.
func as(u api.User) api.UserUpdate {
	return api.UserUpdate{Role: api.UserUpdateRole(u.Role), AutoGroups: u.AutoGroups, IsBlocked: u.IsBlocked}
}

func TestUserCreate(t *testing.T) {
	f := fresh(t)
	web := f.group("web")
	create := func(req api.UserRequest) (api.User, error) { return f.CreateUser(t.Context(), f.owner, req) }
	mail := nullable.NewNullableWithValue[string]

	ada := must(create(api.UserRequest{Email: mail("ada@example.org"), AutoGroups: &[]string{"web"}}))(t)
	if ada.Status != api.UserStatusInvited || ada.Role != "user" || ada.Name != "" || ada.IsServiceUser || ada.Issued != "api" ||
		ada.PendingApproval || !ada.LastLogin.IsZero() || !slices.Equal(ada.AutoGroups, []string{web.Id}) || ada.Version != 1 || ada.IsCurrent {
		t.Fatalf("person: %+v", ada)
	}
	ci := must(create(api.UserRequest{Name: new("ci"), IsServiceUser: new(true), Email: mail("")}))(t)
	if ci.Status != api.UserStatusActive || !ci.IsServiceUser || ci.Email != "" || ci.AutoGroups == nil || len(ci.AutoGroups) != 0 {
		t.Fatalf("service user: %+v", ci)
	}
	owner := must(f.GetUser(t.Context(), f.owner, f.owner.ID))(t)
	if owner.Status != api.UserStatusActive || owner.AutoGroups == nil {
		t.Fatalf("owner: %+v", owner)
	}
	role := func(r string) *api.UserRequestRole { return new(api.UserRequestRole(r)) }
	for name, c := range map[string]struct {
		req          api.UserRequest
		kind         problem.Kind
		field, texts string
	}{
		"person without address":       {api.UserRequest{}, problem.KindInvalid, "email", "one of email, is_service_user must be given"},
		"service user with an address": {api.UserRequest{IsServiceUser: new(true), Email: mail("a@b.c")}, problem.KindInvalid, "email", "only one of email, is_service_user may be given"},
		"not an address":               {api.UserRequest{Email: mail("ada")}, problem.KindInvalid, "email", ""},
		"owner service user":           {api.UserRequest{IsServiceUser: new(true), Role: role("owner")}, problem.KindInvalid, "role", "cannot be owner"},
		"unknown role":                 {api.UserRequest{IsServiceUser: new(true), Role: role("king")}, problem.KindInvalid, "role", "must be one of"},
		"billing_admin":                {api.UserRequest{IsServiceUser: new(true), Role: role("billing_admin")}, problem.KindInvalid, "role", "must be one of"},
		"unknown group":                {api.UserRequest{IsServiceUser: new(true), AutoGroups: &[]string{"gone"}}, problem.KindInvalid, "auto_groups[0]", `unknown group id "gone"`},
		"All":                          {api.UserRequest{IsServiceUser: new(true), AutoGroups: &[]string{"web", "All"}}, problem.KindInvalid, "auto_groups[1]", "every machine anyway"},
		"address taken":                {api.UserRequest{Email: mail("ada@example.org")}, problem.KindConflict, "email", "taken"},
		"address taken in capitals":    {api.UserRequest{Email: mail("Ada@Example.org")}, problem.KindConflict, "email", "taken"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := create(c.req)
			refused(t, err, c.kind, c.field, c.texts)
		})
	}
	refused(t, f.DeleteGroup(t.Context(), f.owner, web.Id, ""), problem.KindInUse, "", `group has been linked to user "ada@example.org"`)
	referrers := must(f.ListGroupReferrers(t.Context(), f.owner, web.Id))(t)
	if want := (api.Referrer{Type: "user", Id: ada.Id, Name: "ada@example.org", Field: "auto_groups"}); len(referrers) != 1 || referrers[0] != want {
		t.Errorf("referrers %v, want %v", referrers, want)
	}
}

func TestUserUpdate(t *testing.T) {
	f := fresh(t)
	web := f.group("web")
	u, _ := f.service("ci", "user")
	update := func(change func(*api.UserUpdate)) (api.User, error) {
		req := as(u)
		change(&req)
		return f.UpdateUser(t.Context(), f.owner, u.Id, req, "")
	}
	u = must(update(func(r *api.UserUpdate) { r.Role, r.AutoGroups = "auditor", []string{"web"} }))(t)
	if u.Role != "auditor" || u.Name != "ci" || !slices.Equal(u.AutoGroups, []string{web.Id}) || u.Version != 2 {
		t.Fatalf("an absent name stays: %+v", u)
	}
	if again := must(update(func(*api.UserUpdate) {}))(t); again.Version != 2 {
		t.Errorf("nothing changed and the version is %d", again.Version)
	}
	if u = must(update(func(r *api.UserUpdate) { r.Name.SetNull() }))(t); u.Name != "" {
		t.Errorf("null leaves the name %q", u.Name)
	}
	if u = must(update(func(r *api.UserUpdate) { r.Name.Set("build"); r.AutoGroups = []string{} }))(t); u.Name != "build" || len(u.AutoGroups) != 0 {
		t.Errorf("%+v", u)
	}
	if err := f.DeleteGroup(t.Context(), f.owner, web.Id, ""); err != nil {
		t.Errorf("nobody names the group any more: %v", err)
	}
	_, err := update(func(r *api.UserUpdate) { r.Role = "billing_admin" })
	refused(t, err, problem.KindInvalid, "role", "must be one of")
	_, err = update(func(r *api.UserUpdate) { r.Role = "owner" })
	refused(t, err, problem.KindInvalid, "role", "cannot be owner")
	_, err = update(func(r *api.UserUpdate) { r.AutoGroups = nil })
	refused(t, err, problem.KindMalformed, "auto_groups", "must be given")
	_, err = update(func(r *api.UserUpdate) { r.AutoGroups = []string{"All"} })
	refused(t, err, problem.KindInvalid, "auto_groups[0]", "every machine anyway")
	_, err = f.UpdateUser(t.Context(), f.owner, u.Id, as(u), `"1"`)
	refused(t, err, problem.KindPrecondition, "", "changed since")
	_, err = f.UpdateUser(t.Context(), f.owner, "gone", as(u), "")
	refused(t, err, problem.KindNotFound, "", "user not found")
}

// Who may do what to whom: every rule that permissions alone do not tell.
func TestUsersAndOwners(t *testing.T) {
	f := fresh(t)
	first := must(f.GetUser(t.Context(), f.owner, f.owner.ID))(t)
	second, secondP := f.person("second@example.org", "owner")
	admin, adminP := f.person("admin@example.org", "admin")
	plain, _ := f.person("plain@example.org", "user")
	with := func(u api.User, role api.UserUpdateRole, blocked bool) api.UserUpdate {
		req := as(u)
		req.Role, req.IsBlocked = role, blocked
		return req
	}
	put := func(p auth.Principal, u api.User, req api.UserUpdate) error {
		_, err := f.UpdateUser(t.Context(), p, u.Id, req, "")
		return err
	}
	owners := "only an owner"
	refused(t, put(adminP, first, with(first, "user", false)), problem.KindForbidden, "", owners)
	refused(t, put(adminP, first, as(first)), problem.KindForbidden, "", owners)
	refused(t, put(adminP, plain, with(plain, "owner", false)), problem.KindForbidden, "", owners)
	refused(t, put(adminP, plain, with(plain, "owner", true)), problem.KindForbidden, "", owners)
	refused(t, put(adminP, admin, with(admin, "owner", false)), problem.KindForbidden, "", owners)
	refused(t, put(adminP, admin, with(admin, "user", false)), problem.KindForbidden, "", "own role")
	refused(t, put(adminP, admin, with(admin, "admin", true)), problem.KindForbidden, "", "blocks itself")
	refused(t, put(f.owner, first, with(first, "admin", false)), problem.KindForbidden, "", "own role")
	refused(t, f.DeleteUser(t.Context(), adminP, first.Id, ""), problem.KindForbidden, "", owners)
	refused(t, f.DeleteUser(t.Context(), adminP, admin.Id, ""), problem.KindInvalid, "", "deletes itself")
	refused(t, f.DeleteUser(t.Context(), f.owner, first.Id, ""), problem.KindInvalid, "", "deletes itself")
	owner := api.UserRequestRole("owner")
	_, err := f.CreateUser(t.Context(), adminP, api.UserRequest{Email: nullable.NewNullableWithValue("x@example.org"), Role: &owner})
	refused(t, err, problem.KindForbidden, "", owners)
	renamed := as(admin)
	renamed.Name.Set("Ada")
	if err := put(adminP, admin, renamed); err != nil {
		t.Errorf("the own name: %v", err)
	}

	// An owner may demote another one, but never the last.
	if err := put(secondP, first, with(first, "admin", false)); err != nil {
		t.Fatal(err)
	}
	system := auth.System(f.owner.AccountID)
	for name, err := range map[string]error{
		"demote": put(system, second, with(second, "admin", false)),
		"block":  put(system, second, with(second, "owner", true)),
		"delete": f.DeleteUser(t.Context(), system, second.Id, ""),
	} {
		t.Run("last owner: "+name, func(t *testing.T) { refused(t, err, problem.KindInvalid, "", "is the last owner") })
	}
	// The one who was demoted is an admin from the next write on, whatever the request said.
	refused(t, put(f.owner, second, with(second, "admin", false)), problem.KindForbidden, "", owners)
	if err := put(system, first, with(first, "owner", false)); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteUser(t.Context(), f.owner, second.Id, ""); err != nil {
		t.Errorf("one of two owners: %v", err)
	}
}

// A role that was taken away counts for no write that comes after.
func TestDemotedWhileWriting(t *testing.T) {
	f := fresh(t)
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	victim, _ := f.service("victim", "user")
	for round := range rounds {
		admin, adminP := f.service(fmt.Sprint("admin", round), "admin")
		var demoted, raised error
		var both sync.WaitGroup
		both.Go(func() {
			req := as(admin)
			req.Role = "user"
			_, demoted = f.UpdateUser(t.Context(), f.owner, admin.Id, req, "")
		})
		both.Go(func() {
			req := as(victim)
			req.Role = []api.UserUpdateRole{"admin", "auditor"}[round%2]
			_, raised = f.UpdateUser(t.Context(), adminP, victim.Id, req, "")
		})
		both.Wait()
		if demoted != nil {
			t.Fatal(demoted)
		}
		newest := must2(f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{Limit: new(1)}))(t)
		last := newest[0]
		if raised == nil && last.TargetId != admin.Id {
			t.Fatalf("round %d: the write of the admin stands behind the end of the role", round)
		}
		if raised != nil {
			refused(t, raised, problem.KindForbidden, "", "users:update")
		}
	}
	if err := f.VerifyAudit(t.Context(), f.owner.AccountID); err != nil {
		t.Error(err)
	}
}

func TestBlockingAndDeletionEndTokens(t *testing.T) {
	f := fresh(t)
	u, p := f.service("ci", "admin")
	made := must(f.CreateToken(t.Context(), f.owner, u.Id, api.TokenRequest{Name: "t", ExpiresIn: 1}))(t)
	sum := auth.Digest(made.PlainToken)
	enter := func() error {
		_, err := f.Authenticate(t.Context(), sum)
		return err
	}
	if err := enter(); err != nil {
		t.Fatal(err)
	}
	blocked := as(u)
	blocked.IsBlocked = true
	if shown := must(f.UpdateUser(t.Context(), f.owner, u.Id, blocked, ""))(t); shown.Status != api.UserStatusBlocked || !shown.IsBlocked {
		t.Errorf("%+v", shown)
	}
	refused(t, enter(), problem.KindUnauthenticated, "", "revoked")
	_, err := f.CreateGroup(t.Context(), p, api.GroupRequest{Name: "late"}) // a request that was under way
	refused(t, err, problem.KindUnauthenticated, "", "blocked")
	must(f.UpdateUser(t.Context(), f.owner, u.Id, as(u), ""))(t)
	if err := enter(); err != nil {
		t.Errorf("no longer blocked: %v", err)
	}
	if err := f.DeleteUser(t.Context(), f.owner, u.Id, `"3"`); err != nil {
		t.Fatal(err)
	}
	refused(t, enter(), problem.KindUnauthenticated, "", "revoked")
	_, err = f.GetUser(t.Context(), f.owner, u.Id)
	refused(t, err, problem.KindNotFound, "", "user not found")
	refused(t, f.DeleteUser(t.Context(), f.owner, u.Id, ""), problem.KindNotFound, "", "user not found")
	pic := f.reloaded()
	if _, left := pic.Users[u.Id]; left || slices.ContainsFunc(slices.Collect(maps.Values(pic.Tokens)), func(t store.Token) bool { return t.UserID == u.Id }) {
		t.Error("the store still knows the user or a token")
	}
}

func TestTokensOfOthers(t *testing.T) {
	f := fresh(t)
	ci, ciP := f.service("ci", "network_admin")
	_, otherP := f.service("other", "auditor")
	person, personP := f.person("ada@example.org", "user")
	create := func(p auth.Principal, user string) error {
		_, err := f.CreateToken(t.Context(), p, user, api.TokenRequest{Name: "t", ExpiresIn: 1})
		return err
	}
	for name, err := range map[string]error{
		"a person's by an owner":      create(f.owner, person.Id),
		"the owner's by a person":     create(personP, f.owner.ID),
		"a service user's by another": create(otherP, ci.Id),
	} {
		t.Run(name, func(t *testing.T) { refused(t, err, problem.KindForbidden, "", "another person") })
	}
	refused(t, create(ciP, ci.Id), problem.KindForbidden, "", "made by admins")
	for _, err := range []error{create(f.owner, ci.Id), create(personP, person.Id)} {
		if err != nil {
			t.Error(err)
		}
	}
	_, _, err := f.ListTokens(t.Context(), otherP, ci.Id, api.ListTokensParams{})
	refused(t, err, problem.KindForbidden, "", "another person")
}

// A user of the role user sees itself and what it enrolled, and nothing else.
func TestRestrictedUser(t *testing.T) {
	f := fresh(t)
	peer := f.enroll("laptop")
	ada, adaP := f.person("ada@example.org", "user")
	users := must2(f.ListUsers(t.Context(), adaP, api.ListUsersParams{}))(t)
	if len(users) != 1 || users[0].Id != ada.Id || !users[0].IsCurrent {
		t.Errorf("users: %+v", users)
	}
	_, err := f.GetUser(t.Context(), adaP, f.owner.ID)
	refused(t, err, problem.KindNotFound, "", "user not found")
	if peers := must2(f.ListPeers(t.Context(), adaP, api.ListPeersParams{}))(t); len(peers) != 0 {
		t.Errorf("peers: %+v", peers)
	}
	_, err = f.GetPeer(t.Context(), adaP, peer.Id)
	refused(t, err, problem.KindNotFound, "", "peer not found")
	_, err = f.ListAccessiblePeers(t.Context(), adaP, peer.Id)
	refused(t, err, problem.KindNotFound, "", "peer not found")
	_, err = f.ListPeerReferrers(t.Context(), adaP, peer.Id)
	refused(t, err, problem.KindNotFound, "", "peer not found")
	me := must(f.GetCurrentUser(t.Context(), adaP))(t)
	if !me.Permissions.IsRestricted || me.Permissions.Modules["groups"].Read || !me.Permissions.Modules["tokens"].Create {
		t.Errorf("permissions: %+v", me.Permissions)
	}
	if own := must(f.GetCurrentUser(t.Context(), f.owner))(t); own.Permissions.IsRestricted {
		t.Error("an owner is restricted")
	}
	if !sees(adaP, store.Peer{UserID: ada.Id}) || sees(adaP, store.Peer{}) || !sees(f.owner, store.Peer{}) {
		t.Error("own machines are those that the user enrolled")
	}
}

func TestUserFilters(t *testing.T) {
	f := fresh(t)
	f.service("ci", "auditor")
	f.person("ada@example.org", "user")
	for name, c := range map[string]struct {
		params api.ListUsersParams
		want   string
	}{
		"all":           {api.ListUsersParams{}, "owner@example.org  ada@example.org"},
		"service users": {api.ListUsersParams{ServiceUser: new(true)}, ""},
		"people":        {api.ListUsersParams{ServiceUser: new(false)}, "owner@example.org ada@example.org"},
		"address":       {api.ListUsersParams{Email: new("ada@example.org")}, "ada@example.org"},
		"no address":    {api.ListUsersParams{Email: new("")}, "none"},
		"name":          {api.ListUsersParams{Name: new("ci")}, ""},
	} {
		users := must2(f.ListUsers(t.Context(), f.owner, c.params))(t)
		var got []string
		for _, u := range users {
			got = append(got, u.Email)
		}
		if text := strings.Join(got, " "); text != c.want && (c.want != "none" || len(users) > 0) {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}

func TestUserAudit(t *testing.T) {
	f := fresh(t)
	u, _ := f.service("ci", "user")
	req := as(u)
	req.Role = "auditor"
	must(f.UpdateUser(t.Context(), f.owner, u.Id, req, ""))(t)
	if err := f.DeleteUser(t.Context(), f.owner, u.Id, ""); err != nil {
		t.Fatal(err)
	}
	events := must2(f.ListAuditEvents(t.Context(), f.owner, api.ListAuditEventsParams{Limit: new(3)}))(t)
	for i, want := range []string{"user.delete", "user.update", "user.create"} {
		e := events[i]
		if e.ActivityCode != want || e.TargetId != u.Id || e.InitiatorId != f.owner.ID || e.Meta["name"] != "ci" {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if change := events[1]; (*change.Before)["role"] != "user" || (*change.After)["role"] != "auditor" {
		t.Errorf("%v became %v", change.Before, change.After)
	}
}

// A request that was let in before its token was revoked, and whose body came
// after that, writes nothing any more.
func TestRevokedTokenWritesNothing(t *testing.T) {
	f := fresh(t)
	robot, _ := f.service("robot", "admin")
	made := must(f.CreateToken(t.Context(), f.owner, robot.Id, api.TokenRequest{Name: "ci", ExpiresIn: 1}))(t)
	other := must(f.CreateToken(t.Context(), f.owner, robot.Id, api.TokenRequest{Name: "other", ExpiresIn: 1}))(t)
	enter := func(secret string) auth.Principal {
		return must(f.Authenticate(t.Context(), sha256.Sum256([]byte(secret))))(t)
	}
	late, still := enter(made.PlainToken), enter(other.PlainToken)
	must(f.CreateGroup(t.Context(), late, api.GroupRequest{Name: "before"}))(t)
	if err := f.DeleteToken(t.Context(), f.owner, robot.Id, made.Id, ""); err != nil {
		t.Fatal(err)
	}
	_, err := f.CreateGroup(t.Context(), late, api.GroupRequest{Name: "after"})
	refused(t, err, problem.KindUnauthenticated, "", "revoked")
	must(f.CreateGroup(t.Context(), still, api.GroupRequest{Name: "after"}))(t)
}

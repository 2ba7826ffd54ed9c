package state

import (
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/seal/hash"
	"github.com/wattlenet/wattle/controlplane/internal/seal/token"
	"github.com/wattlenet/wattle/generated/api"
)

func TestOneOfManySetupsWins(t *testing.T) {
	s := open(t, t.TempDir())
	won := atOnce(100, func(int) error {
		_, err := s.SetUp(t.Context(), auth.Principal{}, NewOwner{Email: "o@example.org", Name: "O"})
		return err
	}, func(err error) { refused(t, err, problem.KindSetupDone, "", "set up already") })
	if won != 1 || len(s.accounts) != 1 {
		t.Fatalf("%d setups won, %d accounts", won, len(s.accounts))
	}
}

func TestFreshNetwork(t *testing.T) {
	s := open(t, t.TempDir())
	made := must(s.SetupInstance(t.Context(), api.SetupRequest{Email: "o@example.org", Name: "O", Password: "correct horse", CreatePat: new(true)}))(t)
	secret := must(token.Parse(token.Access, *made.PersonalAccessToken))(t)
	p := must(s.Authenticate(t.Context(), secret.Sum()))(t)
	if p.Role != "owner" || p.ID != made.UserId || p.Email != "o@example.org" {
		t.Fatalf("%+v", p)
	}
	_, err := s.SetupInstance(t.Context(), api.SetupRequest{})
	refused(t, err, problem.KindSetupDone, "", "already")

	policies := must2(s.ListPolicies(t.Context(), p, api.ListPoliciesParams{}))(t)
	if len(policies) != 1 || policies[0].Name != "Default" || (*policies[0].Rules[0].Sources)[0].Name != "All" {
		t.Fatalf("%+v", policies)
	}
	keys := must2(s.ListSetupKeys(t.Context(), p, api.ListSetupKeysParams{}))(t)
	if len(keys) != 2 || keys[0].Type != "one-off" || keys[1].Type != "reusable" {
		t.Fatalf("%+v", keys)
	}
	if err := s.DeletePolicy(t.Context(), p, policies[0].Id, ""); err != nil {
		t.Fatal(err)
	}
	u := s.accounts[p.AccountID].users.byID[p.ID]
	if ok := must(hash.Verify(t.Context(), u.PasswordHash, "correct horse"))(t); !ok {
		t.Fatal("the password does not verify")
	}
	if ok := must(hash.Verify(t.Context(), u.PasswordHash, "wrong horse"))(t); ok {
		t.Fatal("a wrong password verifies")
	}
}

func TestTokens(t *testing.T) {
	f := fresh(t)
	made := must(f.CreateToken(t.Context(), f.owner, f.owner.ID, api.TokenRequest{Name: "ci", ExpiresIn: 7}))(t)
	secret := must(token.Parse(token.Access, made.PlainToken))(t)
	p := must(f.Authenticate(t.Context(), secret.Sum()))(t)
	if p.TokenID != made.Id || made.ExpirationDate.Sub(made.CreatedAt).Hours() != 7*24 || made.PersonalAccessToken.Id != made.Id {
		t.Fatalf("%+v", made)
	}
	_, err := f.CreateToken(t.Context(), f.owner, f.owner.ID, api.TokenRequest{Name: "ci", ExpiresIn: 366})
	refused(t, err, problem.KindInvalid, "expires_in", "at most 365")
	_, err = f.CreateToken(t.Context(), f.owner, "nobody", api.TokenRequest{Name: "ci", ExpiresIn: 3})
	refused(t, err, problem.KindNotFound, "", "user not found")
	_, err = f.GetToken(t.Context(), f.owner, f.owner.ID, "nothing")
	refused(t, err, problem.KindNotFound, "", "token not found")
	if err := f.DeleteToken(t.Context(), f.owner, f.owner.ID, made.Id, ""); err != nil {
		t.Fatal(err)
	}
	_, err = f.Authenticate(t.Context(), secret.Sum())
	refused(t, err, problem.KindUnauthenticated, "", "revoked")
	if left := must2(f.ListTokens(t.Context(), f.owner, f.owner.ID, api.ListTokensParams{}))(t); len(left) != 1 {
		t.Fatalf("%+v", left)
	}
}

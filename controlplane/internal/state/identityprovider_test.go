package state

import (
	"strings"
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

func provider(name string, secret *string) api.IdentityProviderRequest {
	return api.IdentityProviderRequest{
		Type: api.IdentityProviderRequestTypeOidc, Name: name, ClientId: "wattle", ClientSecret: secret, Issuer: "https://login.example.org/realms/main/",
	}
}

// secretOf opens the kept secret of an identity provider; "" for none.
func (f *fixture) secretOf(id string) string {
	f.t.Helper()
	row := f.accounts[f.owner.AccountID].identityProviders.byID[id].Body.Secret
	if row == "" {
		return ""
	}
	var sealed []byte
	err := f.store.Read(f.t.Context(), func(tx *store.Tx) (err error) {
		sealed, err = store.FindSecret(f.t.Context(), tx, row)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return string(must(f.cfg.Keys.Open(secretPlace(row), sealed))(f.t))
}

func (f *fixture) providerSecrets() (n int) {
	f.t.Helper()
	err := f.store.Read(f.t.Context(), func(tx *store.Tx) error {
		all, err := store.Secrets(f.t.Context(), tx)
		for name := range all {
			if strings.HasPrefix(name, "identity-provider/") {
				n++
			}
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

func TestIdentityProviderSecrets(t *testing.T) {
	f := fresh(t)
	const secret, renewed = "s3cr3t-of-the-client", "n3w-s3cr3t-of-the-client"
	made := must(f.CreateIdentityProvider(t.Context(), f.owner, provider("sso", new(secret))))(t)
	if made.Issuer != "https://login.example.org/realms/main/" || made.Version != 1 || f.secretOf(made.Id) != secret {
		t.Fatalf("%+v", made)
	}
	put := func(req api.IdentityProviderRequest) api.IdentityProvider {
		return must(f.UpdateIdentityProvider(t.Context(), f.owner, made.Id, req, ""))(t)
	}
	if got := put(provider("sso", nil)); got.Version != 1 || f.secretOf(made.Id) != secret {
		t.Errorf("an absent secret changed something: %+v", got)
	}
	if got := put(provider("sso", new(secret))); got.Version != 1 {
		t.Errorf("the same secret changed something: %+v", got)
	}
	if got := put(provider("sso", new(renewed))); got.Version != 2 || f.secretOf(made.Id) != renewed || f.providerSecrets() != 1 {
		t.Errorf("%+v, %d secrets", got, f.providerSecrets())
	}
	if got := put(provider("login", nil)); got.Name != "login" || got.Version != 3 || f.secretOf(made.Id) != renewed {
		t.Errorf("%+v", got)
	}
	for what, holds := range f.dump() {
		if strings.Contains(holds, secret) || strings.Contains(holds, renewed) {
			t.Errorf("%s holds a secret", what)
		}
	}
	second := must(New(t.Context(), f.cfg))(t)
	if again := must(second.GetIdentityProvider(t.Context(), f.owner, made.Id))(t); again.Name != "login" || again.Version != 3 {
		t.Errorf("after a restart %+v", again)
	}
	if err := f.DeleteIdentityProvider(t.Context(), f.owner, made.Id, `"3"`); err != nil {
		t.Fatal(err)
	}
	if n := f.providerSecrets(); n != 0 {
		t.Errorf("%d secrets are left", n)
	}
	public := must(f.CreateIdentityProvider(t.Context(), f.owner, provider("public", nil)))(t)
	if f.secretOf(public.Id) != "" {
		t.Error("a public client has a secret")
	}
}

func TestIdentityProviderRules(t *testing.T) {
	f := fresh(t)
	must(f.CreateIdentityProvider(t.Context(), f.owner, provider("sso", nil)))(t)
	_, err := f.CreateIdentityProvider(t.Context(), f.owner, provider("sso", nil))
	refused(t, err, problem.KindConflict, "name", "taken")
	for _, issuer := range []string{
		"", "http://login.example.org", "https://", "https:///path", "https://user@login.example.org", "https://login.example.org/?a=b",
		"https://login.example.org/#x", "https://login.example.org/a b", "https://:443/", "login.example.org",
	} {
		req := provider("other", nil)
		req.Issuer = issuer
		_, err := f.CreateIdentityProvider(t.Context(), f.owner, req)
		refused(t, err, problem.KindInvalid, "issuer", "")
	}
	req := provider("other", nil)
	req.Type = "ldap"
	_, err = f.CreateIdentityProvider(t.Context(), f.owner, req)
	refused(t, err, problem.KindInvalid, "type", "")
	_, net := f.service("net", "network_admin")
	_, err = f.CreateIdentityProvider(t.Context(), net, provider("other", nil))
	refused(t, err, problem.KindForbidden, "", "identity_providers:create")
	_, err = f.GetIdentityProvider(t.Context(), f.owner, "gone")
	refused(t, err, problem.KindNotFound, "", "identity provider not found")
}

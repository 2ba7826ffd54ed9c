package start

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/internal/program"
)

// What is secret stands in the answer that makes it and in the files that are for it: not in the log at its most talkative, not in
// the audit, and in the database only sealed or as a hash.
func TestSecretsAreNotWrittenDown(t *testing.T) {
	config := testConfig(t)
	var log bytes.Buffer
	var err error
	if config.Logger, err = (&program.Log{Level: "debug"}).Logger(&log); err != nil {
		t.Fatal(err)
	}
	up := startUp(t, Up, config)
	profile, err := sdk.ReadProfile(config.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{"the owner's token": profile.Token}
	client, err := sdk.FromProfile(config.Credentials)
	if err != nil {
		t.Fatal(err)
	}
	makeSecrets(t, client, secrets)
	presentSecrets(t, profile, secrets)
	events, err := client.ListAuditEvents(t.Context(), sdk.ListAuditEventsOptions{})
	if err != nil || len(events) < 8 {
		t.Fatalf("%d audit events: %v", len(events), err)
	}
	audit, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	client.CloseIdleConnections()
	places := map[string][]byte{"the audit": audit}
	readFiles(t, config.DataDir, places)
	if err := up.stop(); err != nil { // the database is one file then
		t.Fatal(err)
	}
	readFiles(t, config.DataDir, places)
	places["the log"], places["what was printed"] = log.Bytes(), []byte(up.text())
	for _, place := range []string{databaseFile, "the audit"} {
		if !bytes.Contains(places[place], []byte("ada@example.org")) {
			t.Fatalf("%s was not read: what is no secret does not stand in it either", place)
		}
	}
	if log.Len() == 0 {
		t.Fatal("nothing was logged")
	}
	for what, secret := range secrets {
		for place, text := range places {
			for _, form := range formsOf(secret) {
				if bytes.Contains(text, []byte(form)) {
					t.Errorf("%s holds %s", place, what)
				}
			}
		}
	}
}

// makeSecrets goes through every operation that makes or takes a secret.
func makeSecrets(t *testing.T, client *sdk.Client, secrets map[string]string) {
	t.Helper()
	ctx := t.Context()
	owner := must(client.GetCurrentUser(ctx))(t)
	secrets["an access token"] = must(client.CreateToken(ctx, owner.Id, api.TokenRequest{Name: "t", ExpiresIn: 1}))(t).PlainToken
	secrets["a setup key"] = must(client.CreateSetupKey(ctx, api.SetupKeyRequest{Name: "k"}))(t).Key
	must(client.RenderCloudInit(ctx, api.CloudInitRequest{
		SetupKey: nullable.NewNullableWithValue(secrets["a setup key"]), Install: new(api.CloudInitRequestInstallNone),
	}))(t)
	invite := must(client.CreateInvite(ctx, api.InviteRequest{Email: "ada@example.org"}))(t)
	secrets["an invite"] = invite.InviteToken
	secrets["a renewed invite"] = must(client.RegenerateInvite(ctx, invite.Id, api.InviteRegenerateRequest{}))(t).InviteToken
	secrets["a password"] = "correct " + rand.Text()
	must(client.AcceptInvite(ctx, secrets["a renewed invite"], api.InviteAcceptRequest{Password: secrets["a password"]}))(t)
	for _, what := range []string{"a client secret", "the next client secret"} {
		secrets[what] = rand.Text()
		provider := api.IdentityProviderRequest{Name: what, Type: api.IdentityProviderRequestTypeOidc, ClientId: "c", Issuer: "https://idp.example.org", ClientSecret: new(secrets[what])}
		made := must(client.CreateIdentityProvider(ctx, provider))(t)
		secrets[what+", changed"] = rand.Text()
		provider.ClientSecret = new(secrets[what+", changed"])
		must(client.UpdateIdentityProvider(ctx, made.Id, provider))(t)
	}
	secrets["a Terraform state"] = rand.Text()
	must(client.PutTerraformState(ctx, "prod", fmt.Appendf(nil, `{"version":4,"serial":1,"lineage":"l","outputs":{"p":{"value":%q}}}`, secrets["a Terraform state"])))(t)
}

// presentSecrets shows credentials that are refused: a mistyped one is as good as the true one to whoever reads the log.
func presentSecrets(t *testing.T, profile sdk.Profile, secrets map[string]string) {
	t.Helper()
	for what, secret := range map[string]string{
		"an unknown token": "wtp_" + rand.Text(), "a credential of no kind": rand.Text(), "a token of a machine that is none": "e30." + rand.Text() + "." + rand.Text(),
	} {
		secrets[what] = secret
		client := must(sdk.New(sdk.Config{URL: profile.URL, CAPin: profile.CAPin, Token: secret, Logger: program.Quiet()}))(t)
		if _, err := client.GetCurrentUser(t.Context(), sdk.Once()); err == nil {
			t.Errorf("%s was taken", what)
		}
		client.CloseIdleConnections()
	}
	secrets["an unknown setup key"], secrets["an unknown invite"] = "wtk_"+rand.Text(), "wti_"+rand.Text()
	client := must(sdk.New(sdk.Config{URL: profile.URL, CAPin: profile.CAPin, Token: profile.Token}))(t)
	defer client.CloseIdleConnections()
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	enrolment := api.EnrollRequest{SetupKey: secrets["an unknown setup key"], MachineKey: key, WireguardKey: key, Proof: "a.b.c", Facts: api.MachineFacts{Hostname: "m", Os: "linux"}}
	if _, err := client.EnrollAgent(t.Context(), enrolment, sdk.Once()); err == nil {
		t.Error("an unknown setup key was taken")
	}
	if _, err := client.GetInviteInfo(t.Context(), secrets["an unknown invite"], sdk.Once()); err == nil {
		t.Error("an unknown invite was taken")
	}
}

// readFiles adds the files of a data folder but for those that are there to hold a secret.
func readFiles(t *testing.T, folder string, places map[string][]byte) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		name := filepath.Base(path)
		if err != nil || entry.IsDir() || slices.Contains([]string{masterKeyFile, setupKeyFile}, name) {
			return err
		}
		text, err := os.ReadFile(path)
		places[name] = append(places[name], text...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// formsOf are a secret as it is, in hexadecimal digits, and in base64 wherever in a longer text it begins.
func formsOf(secret string) []string {
	forms := []string{secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret)))}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			text := encoding.EncodeToString(append(make([]byte, shift), secret...))
			forms = append(forms, text[(shift*8+5)/6:len(text)-2])
		}
	}
	return forms
}

// must gives a value or ends the test.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

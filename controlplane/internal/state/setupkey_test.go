package state

import (
	"strings"
	"testing"
	"time"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

func TestSetupKeyRules(t *testing.T) {
	f := fresh(t)
	web := f.group("web")
	create := func(req api.SetupKeyRequest) (api.SetupKey, error) {
		return f.CreateSetupKey(t.Context(), f.owner, req)
	}
	k := must(create(api.SetupKeyRequest{Name: "k", AutoGroups: &[]string{"web"}}))(t)
	if k.Type != "one-off" || k.UsageLimit != 1 || k.ExpiresIn != 0 || !k.Expires.IsZero() || !k.Valid || k.AutoGroups[0] != web.Id || !k.LastUsed.IsZero() {
		t.Fatalf("defaults: %+v", k)
	}
	read := must(f.GetSetupKey(t.Context(), f.owner, k.Id))(t)
	if !strings.HasPrefix(k.Key, "wtk_") || read.Key[:5] != k.Key[:5] || strings.Trim(read.Key[5:], "*") != "" {
		t.Fatalf("secret %q is shown as %q", k.Key, read.Key)
	}
	_, err := create(api.SetupKeyRequest{Name: "k", UsageLimit: new(2)})
	refused(t, err, problem.KindInvalid, "usage_limit", "one use, not 2")
	_, err = create(api.SetupKeyRequest{Name: "k", ExpiresIn: new(-1)})
	refused(t, err, problem.KindInvalid, "expires_in", "at least 0")
	_, err = create(api.SetupKeyRequest{Name: ""})
	refused(t, err, problem.KindInvalid, "name", "must not be empty")
	_, err = create(api.SetupKeyRequest{Name: "k", AutoGroups: &[]string{"gone"}})
	refused(t, err, problem.KindNotFound, "auto_groups[0]", `unknown group id "gone"`)
	_, err = create(api.SetupKeyRequest{Name: "k", AutoGroups: &[]string{"All"}})
	refused(t, err, problem.KindInvalid, "auto_groups[0]", "every machine anyway")

	update := func(req api.SetupKeyUpdate) (api.SetupKey, error) {
		return f.UpdateSetupKey(t.Context(), f.owner, k.Id, req, "")
	}
	_, err = update(api.SetupKeyUpdate{})
	refused(t, err, problem.KindMalformed, "auto_groups", "must be given")
	_, err = update(api.SetupKeyUpdate{AutoGroups: []string{"gone"}})
	refused(t, err, problem.KindInvalid, "auto_groups[0]", `unknown group id "gone"`)
	refused(t, f.DeleteGroup(t.Context(), f.owner, web.Id, ""), problem.KindInUse, "", `group has been linked to setup key "k"`)
	k = must(update(api.SetupKeyUpdate{AutoGroups: []string{}, Revoked: new(true)}))(t)
	if !k.Revoked || k.Valid || k.State != "revoked" || k.Version != 2 || len(k.AutoGroups) != 0 || k.AutoGroups == nil {
		t.Fatalf("revoked: %+v", k)
	}
	_, err = update(api.SetupKeyUpdate{AutoGroups: []string{}, Revoked: new(false)})
	refused(t, err, problem.KindInvalid, "revoked", "stays revoked")
	if err := f.DeleteGroup(t.Context(), f.owner, web.Id, ""); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteSetupKey(t.Context(), f.owner, k.Id, ""); err != nil {
		t.Fatal(err)
	}
}

func TestSetupKeyRefusals(t *testing.T) {
	f := fresh(t)
	try := func(key string) error {
		_, err := f.Enroll(t.Context(), auth.Principal{}, request(key, "m"), somewhere)
		return err
	}
	make1 := func(req api.SetupKeyRequest) api.SetupKey {
		return must(f.CreateSetupKey(t.Context(), f.owner, req))(t)
	}
	refused(t, try("wtk_nonsense"), problem.KindSetupKey, "", "unknown")
	refused(t, try(f.network.Token), problem.KindSetupKey, "", "unknown")
	if err := try(f.network.OneOffSetupKey); err != nil {
		t.Fatal(err)
	}
	refused(t, try(f.network.OneOffSetupKey), problem.KindSetupKey, "", "used up")
	revoked := make1(api.SetupKeyRequest{Name: "r", Revoked: new(true)})
	refused(t, try(revoked.Key), problem.KindSetupKey, "", "revoked")
	short := make1(api.SetupKeyRequest{Name: "e", ExpiresIn: new(1)})
	row := f.accounts[f.owner.AccountID].keys.byID[short.Id]
	refused(t, usable(row, row.ExpiresAt), problem.KindSetupKey, "", "expired at")
	if err := usable(row, row.ExpiresAt.Add(-time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	deleted := make1(api.SetupKeyRequest{Name: "d"})
	if err := f.DeleteSetupKey(t.Context(), f.owner, deleted.Id, ""); err != nil {
		t.Fatal(err)
	}
	refused(t, try(deleted.Key), problem.KindSetupKey, "", "unknown")
}

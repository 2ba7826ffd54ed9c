package state

import (
	"bytes"
	"testing"

	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

func TestIdempotentCreate(t *testing.T) {
	f := fresh(t)
	hash := [32]byte{1}
	ctx, claim, answer, err := f.Claim(t.Context(), f.owner, "k", hash)
	if err != nil || claim == nil || answer != nil {
		t.Fatal(err)
	}
	_, _, _, err = f.Claim(t.Context(), f.owner, "k", hash)
	refused(t, err, problem.KindConflict, "", "under way")
	made := must(f.CreateSetupKey(ctx, f.owner, api.SetupKeyRequest{Name: "x"}))(t)
	if err := f.Finish(ctx, claim, &Answer{Status: 200, Body: []byte(made.Key), Secret: true}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // from memory, then from the store
		_, claim, answer, err = f.Claim(t.Context(), f.owner, "k", hash)
		if err != nil || claim != nil || answer == nil || string(answer.Body) != made.Key || answer.Status != 200 {
			t.Fatalf("%+v %v", answer, err)
		}
		if err := f.store.Write(t.Context(), func(*store.Tx) error { return nil }); err != nil { // the answer is on the disk after it
			t.Fatal(err)
		}
	}
	_, _, _, err = f.Claim(t.Context(), f.owner, "k", [32]byte{2})
	refused(t, err, problem.KindConflict, "", "another request")

	err = f.store.Read(t.Context(), func(tx *store.Tx) error {
		row, err := store.FindAnswer(t.Context(), tx, f.owner.AccountID+"/"+f.owner.ID, "k", now())
		if err == nil && (!row.Sealed || bytes.Contains(row.Answer, []byte(made.Key))) {
			t.Error("the secret is kept in clear")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestClaimWithoutAnswer(t *testing.T) {
	f := fresh(t)
	// A refused request leaves nothing: it can be repeated.
	ctx, claim, _, err := f.Claim(t.Context(), f.owner, "k", [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.CreateGroup(ctx, f.owner, api.GroupRequest{Name: "All"}); err == nil {
		t.Fatal("made")
	}
	if err := f.Finish(ctx, claim, nil); err != nil {
		t.Fatal(err)
	}
	// A request whose answer was lost in a crash makes no second object.
	ctx, claim, _, err = f.Claim(t.Context(), f.owner, "k", [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	must(f.CreateGroup(ctx, f.owner, api.GroupRequest{Name: "g"}))(t)
	f.claims.release(claim)
	_, _, _, err = f.Claim(t.Context(), f.owner, "k", [32]byte{1})
	refused(t, err, problem.KindConflict, "", "was carried out")
}

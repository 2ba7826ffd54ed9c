package state

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/oapi-codegen/nullable"

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
	// Then it is carried out, and nothing of the refusal stands in its way.
	ctx, claim, _, err = f.Claim(t.Context(), f.owner, "k", [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	must(f.CreateGroup(ctx, f.owner, api.GroupRequest{Name: "g"}))(t)
	f.claims.release(claim)
}

// A crash after the commit and before the answer was kept: the repeated request gets the answer of the object that was
// made, with the secret that nobody has seen, and makes no second one.
func TestAnswerSurvivesCrash(t *testing.T) {
	f := fresh(t)
	user := f.owner.ID
	peers := nullable.NewNullableWithValue([]string{})
	for name, create := range map[string]func(context.Context) (any, error){
		"group": func(ctx context.Context) (any, error) {
			return f.CreateGroup(ctx, f.owner, api.GroupRequest{Name: "crash", Peers: peers})
		},
		"policy": func(ctx context.Context) (any, error) {
			all := nullable.NewNullableWithValue([]string{"All"})
			return f.CreatePolicy(ctx, f.owner, api.PolicyRequest{Name: "crash", Rules: []api.PolicyRuleRequest{{Name: "r", Sources: all, Destinations: all}}})
		},
		"setup key": func(ctx context.Context) (any, error) {
			return f.CreateSetupKey(ctx, f.owner, api.SetupKeyRequest{Name: "crash"})
		},
		"user": func(ctx context.Context) (any, error) {
			service := true
			return f.CreateUser(ctx, f.owner, api.UserRequest{Name: new("crash"), IsServiceUser: &service})
		},
		"token": func(ctx context.Context) (any, error) {
			return f.CreateToken(ctx, f.owner, user, api.TokenRequest{Name: "crash", ExpiresIn: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, claim, _, err := f.Claim(t.Context(), f.owner, name, [32]byte{1})
			if err != nil {
				t.Fatal(err)
			}
			made := must(create(ctx))(t)
			f.claims.release(claim) // as a crash does
			_, again, answer, err := f.Claim(t.Context(), f.owner, name, [32]byte{1})
			if err != nil || again != nil || answer == nil {
				t.Fatalf("claim %v, answer %v, error %v", again, answer, err)
			}
			want, err := json.Marshal(made)
			if err != nil {
				t.Fatal(err)
			}
			if string(answer.Body) != string(want) || answer.Status != 200 {
				t.Errorf("answer %d %s, want 200 %s", answer.Status, answer.Body, want)
			}
		})
	}
}

// An object that was made, lost its answer and is gone again cannot be answered for.
func TestAnswerOfDeletedObject(t *testing.T) {
	f := fresh(t)
	ctx, claim, _, err := f.Claim(t.Context(), f.owner, "k", [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	made := must(f.CreateGroup(ctx, f.owner, api.GroupRequest{Name: "g"}))(t)
	f.claims.release(claim)
	if err := f.DeleteGroup(t.Context(), f.owner, made.Id, ""); err != nil {
		t.Fatal(err)
	}
	_, _, _, err = f.Claim(t.Context(), f.owner, "k", [32]byte{1})
	refused(t, err, problem.KindConflict, "", "was carried out")
}

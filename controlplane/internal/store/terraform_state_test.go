package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func terraformStates(t *testing.T, s *Store) {
	account := someAccount("a")
	row := TerraformState{AccountID: "a", Name: "net", Version: 3, LockID: "l", LockInfo: "{}"}
	version := func(n int64) TerraformStateVersion {
		return TerraformStateVersion{
			AccountID: "a", Name: "net", Version: n, Serial: n, Lineage: "x", Size: 5, Digest: []byte{1}, ContentID: fmt.Sprint("c", n), CreatedAt: at, CreatedBy: "u",
		}
	}
	err := s.Write(t.Context(), func(tx *Tx) error {
		ctx := context.Background()
		if err := errors.Join(Accounts.Insert(ctx, tx, &account), TerraformStates.Insert(ctx, tx, &row)); err != nil {
			return err
		}
		for n := int64(1); n <= 3; n++ {
			v := version(n)
			if err := errors.Join(AddStateContent(ctx, tx, v.ContentID, []byte(v.ContentID)), TerraformStateVersions.Insert(ctx, tx, &v)); err != nil {
				return err
			}
		}
		return TrimStateVersions(ctx, tx, "a", "net", 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Read(t.Context(), func(tx *Tx) error {
		ctx := t.Context()
		rows, err := AccountTerraformStates(ctx, tx, "a")
		if err != nil || cmp.Diff([]TerraformState{row}, rows) != "" {
			t.Errorf("states %+v, %v", rows, err)
		}
		versions, err := StateVersions(ctx, tx, "a", "net")
		if diff := cmp.Diff([]TerraformStateVersion{version(3), version(2)}, versions); err != nil || diff != "" {
			t.Errorf("versions (-want +got): %s, %v", diff, err)
		}
		if sealed, err := StateContent(ctx, tx, "c2"); err != nil || string(sealed) != "c2" {
			t.Errorf("content %q, %v", sealed, err)
		}
		if _, err := StateContent(ctx, tx, "c1"); !errors.Is(err, ErrNoRow) {
			t.Errorf("the content of a forgotten version: %v", err)
		}
		if _, err := FindStateVersion(ctx, tx, "a", "net", 1); !errors.Is(err, ErrNoRow) {
			t.Errorf("a forgotten version: %v", err)
		}
		_, err = FindTerraformState(ctx, tx, "b", "net")
		if !errors.Is(err, ErrNoRow) {
			t.Errorf("the state of another account: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

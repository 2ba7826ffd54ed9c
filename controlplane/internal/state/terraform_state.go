package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// keptStateVersions bounds the versions of a Terraform state: a busy day of
// applies, at a tenth of the size of the state each.
const keptStateVersions = 50

const terraformStateNoun = "terraform state"

var stateName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func checkStateName(name string) error {
	if stateName.MatchString(name) {
		return nil
	}
	return problem.Invalid(problem.Field("state_name", "must begin with a letter or digit and hold only letters, digits, dots, dashes and underscores, at most 128"))
}

func showStateVersion(v store.TerraformStateVersion) api.TerraformStateVersion {
	return api.TerraformStateVersion{
		Version: v.Version, Serial: v.Serial, Lineage: v.Lineage, Size: v.Size, CreatedAt: v.CreatedAt, CreatedBy: v.CreatedBy,
	}
}

// ListTerraformStates lists the states of the account by name, without content.
func (s *State) ListTerraformStates(ctx context.Context, p auth.Principal) (items []api.TerraformState, err error) {
	items = []api.TerraformState{}
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		rows, err := store.AccountTerraformStates(ctx, tx, p.AccountID)
		if err != nil {
			return err
		}
		for _, row := range rows {
			shown := api.TerraformState{Name: row.Name, Version: row.Version}
			if row.LockID != "" {
				if shown.Lock, err = heldLock(row); err != nil {
					return err
				}
			}
			if row.Version > 0 {
				v, err := store.FindStateVersion(ctx, tx, p.AccountID, row.Name, row.Version)
				if err != nil {
					return err
				}
				shown.Serial, shown.Lineage, shown.Size, shown.UpdatedAt, shown.UpdatedBy = v.Serial, v.Lineage, v.Size, v.CreatedAt, v.CreatedBy
			}
			items = append(items, shown)
		}
		return nil
	})
	return items, asProblem(err)
}

// ListTerraformStateVersions lists the kept versions of a state, newest first.
func (s *State) ListTerraformStateVersions(ctx context.Context, p auth.Principal, name string) (items []api.TerraformStateVersion, err error) {
	if err := checkStateName(name); err != nil {
		return nil, err
	}
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		rows, err := store.StateVersions(ctx, tx, p.AccountID, name)
		if err == nil && len(rows) == 0 {
			return problem.NotFound(terraformStateNoun)
		}
		for _, row := range rows {
			items = append(items, showStateVersion(row))
		}
		return err
	})
	return items, asProblem(err)
}

// GetTerraformState reads the newest version of a state.
func (s *State) GetTerraformState(ctx context.Context, p auth.Principal, name string) ([]byte, error) {
	return s.stateContent(ctx, p, name, newestVersion)
}

// GetTerraformStateVersion reads a kept version of a state.
func (s *State) GetTerraformStateVersion(ctx context.Context, p auth.Principal, name string, version int64) ([]byte, error) {
	return s.stateContent(ctx, p, name, max(version, 0)) // 0 is no version
}

// newestVersion asks for whichever version is the newest.
const newestVersion = -1

func (s *State) stateContent(ctx context.Context, p auth.Principal, name string, version int64) (raw []byte, err error) {
	if err := checkStateName(name); err != nil {
		return nil, err
	}
	var v store.TerraformStateVersion
	var sealed []byte
	err = s.store.Read(ctx, func(tx *store.Tx) (err error) {
		if v, err = wantedVersion(ctx, tx, p.AccountID, name, version); err != nil {
			return err
		}
		sealed, err = store.StateContent(ctx, tx, v.ContentID)
		return err
	})
	if err != nil {
		return nil, asProblem(err)
	}
	raw, err = s.openContent(v.ContentID, sealed)
	return raw, asProblem(err)
}

func wantedVersion(ctx context.Context, tx *store.Tx, accountID, name string, version int64) (v store.TerraformStateVersion, err error) {
	row, err := store.FindTerraformState(ctx, tx, accountID, name)
	if row, err = found(row, err, terraformStateNoun); err != nil {
		return v, err
	}
	noun := "version of the " + terraformStateNoun
	if version == newestVersion {
		version, noun = row.Version, terraformStateNoun
	}
	v, err = store.FindStateVersion(ctx, tx, accountID, name, version)
	return found(v, err, noun)
}

// PutTerraformState keeps a new version of a state. lockID names the lock that
// the caller holds; empty for none. It is locked when somebody else holds it,
// and a serial conflict when the content does not follow the kept version.
func (s *State) PutTerraformState(ctx context.Context, p auth.Principal, name string, from io.Reader, lockID string) (answer api.TerraformStateVersion, err error) {
	if err := checkStateName(name); err != nil {
		return answer, err
	}
	content, err := readTerraformContent(from)
	if err != nil {
		return answer, err
	}
	return s.keepVersion(ctx, p, name, lockID, "terraform-state.write", content, func(newest store.TerraformStateVersion) error {
		return content.follows(newest)
	})
}

// RestoreTerraformState writes an old version as the newest, with a serial
// above it, so that whoever read the replaced version cannot write any more.
func (s *State) RestoreTerraformState(ctx context.Context, p auth.Principal, name string, version int64, lockID string) (answer api.TerraformStateVersion, err error) {
	raw, err := s.stateContent(ctx, p, name, max(version, 0))
	if err != nil {
		return answer, err
	}
	kept, err := s.ListTerraformStateVersions(ctx, p, name)
	if err != nil {
		return answer, err
	}
	content, err := parseTerraformContent(raw)
	if err != nil {
		return answer, err
	}
	serial := content.serial
	for _, v := range kept {
		serial = max(serial, v.Serial)
	}
	if content, err = content.withSerial(serial + 1); err != nil {
		return answer, asProblem(err)
	}
	return s.keepVersion(ctx, p, name, lockID, "terraform-state.restore", content, func(newest store.TerraformStateVersion) error {
		if newest.Version != kept[0].Version { // kept is not empty and newest first
			return problem.SerialConflict("the state was written while it was being restored; look at its versions and try again")
		}
		return nil
	})
}

// follows refuses a content that cannot come after the newest version.
func (c terraformContent) follows(newest store.TerraformStateVersion) error {
	switch {
	case newest.Version == 0:
		return nil
	case string(newest.Digest) == string(c.digest[:]):
		return errUnchanged
	case newest.Lineage != c.lineage:
		return problem.SerialConflict(fmt.Sprintf("the state has the lineage %s and the kept one %s, so they are not of the same configuration; use another name, or delete the kept state first", c.lineage, newest.Lineage))
	case c.serial <= newest.Serial:
		return problem.SerialConflict(fmt.Sprintf("the state has serial %d and the kept one %d already, so somebody wrote in between; plan again, or restore an old version", c.serial, newest.Serial))
	}
	return nil
}

// keepVersion writes a version, if admit lets it follow the newest one, and
// forgets the oldest.
func (s *State) keepVersion(ctx context.Context, p auth.Principal, name, lockID, activity string, content terraformContent,
	admit func(newest store.TerraformStateVersion) error,
) (answer api.TerraformStateVersion, err error) {
	id := newID()
	sealed, err := s.sealContent(id, content.raw)
	if err != nil {
		return answer, asProblem(err)
	}
	err = s.write(ctx, p, api.PermissionTerraformStatesUpdate, func(w *write) error {
		row, newest, err := w.terraformState(name)
		if err != nil {
			return err
		}
		if err := checkLock(row, lockID); err != nil {
			return err
		}
		if err := admit(newest); err != nil {
			answer = showStateVersion(newest)
			return err
		}
		v := store.TerraformStateVersion{
			AccountID: w.account.ID, Name: name, Version: row.Version + 1, Serial: content.serial, Lineage: content.lineage,
			Size: int64(len(content.raw)), Digest: content.digest[:], ContentID: id, CreatedAt: w.now, CreatedBy: w.p.ID,
		}
		fresh := row.Version == 0 && row.LockID == ""
		row.Version = v.Version
		if err := errors.Join(w.putState(row, fresh), store.AddStateContent(w.ctx, w.tx, id, sealed), store.TerraformStateVersions.Insert(w.ctx, w.tx, &v),
			store.TrimStateVersions(w.ctx, w.tx, w.account.ID, name, v.Version-keptStateVersions)); err != nil {
			return err
		}
		answer = showStateVersion(v)
		return w.note(activity, name, name, versionAudit(newest), versionAudit(v))
	}, func(*account) {})
	return answer, err
}

// terraformState finds a state and its newest version; zero values for one
// that does not exist yet.
func (w *write) terraformState(name string) (row store.TerraformState, newest store.TerraformStateVersion, err error) {
	row, err = store.FindTerraformState(w.ctx, w.tx, w.account.ID, name)
	if errors.Is(err, store.ErrNoRow) {
		return store.TerraformState{AccountID: w.account.ID, Name: name}, newest, nil
	}
	if err == nil && row.Version > 0 {
		newest, err = store.FindStateVersion(w.ctx, w.tx, w.account.ID, name, row.Version)
	}
	return row, newest, err
}

func (w *write) putState(row store.TerraformState, fresh bool) error {
	if fresh {
		return store.TerraformStates.Insert(w.ctx, w.tx, &row)
	}
	return store.TerraformStates.Update(w.ctx, w.tx, &row)
}

// DeleteTerraformState removes a state with all its versions.
func (s *State) DeleteTerraformState(ctx context.Context, p auth.Principal, name, lockID string) error {
	if err := checkStateName(name); err != nil {
		return err
	}
	return s.write(ctx, p, api.PermissionTerraformStatesDelete, func(w *write) error {
		row, newest, err := w.terraformState(name)
		if err != nil {
			return err
		}
		if row.Version == 0 && row.LockID == "" {
			return problem.NotFound(terraformStateNoun)
		}
		if err := checkLock(row, lockID); err != nil {
			return err
		}
		if err := store.TrimStateVersions(w.ctx, w.tx, w.account.ID, name, row.Version); err != nil {
			return err
		}
		if err := store.TerraformStates.Delete(w.ctx, w.tx, w.account.ID, name); err != nil {
			return err
		}
		return w.note("terraform-state.delete", name, name, versionAudit(newest), nil)
	}, func(*account) {})
}

// versionAudit is what the audit keeps of a version; nothing of its content.
func versionAudit(v store.TerraformStateVersion) any {
	if v.Version == 0 {
		return nil
	}
	return map[string]any{"version": v.Version, "serial": v.Serial, "lineage": v.Lineage, "size": v.Size}
}

// heldLock is the lock of a state as its holder described it.
func heldLock(row store.TerraformState) (*api.TerraformLock, error) {
	var lock api.TerraformLock
	if err := json.Unmarshal([]byte(row.LockInfo), &lock); err != nil {
		return nil, fmt.Errorf("lock of Terraform state %s: %w", row.Name, err)
	}
	return &lock, nil
}

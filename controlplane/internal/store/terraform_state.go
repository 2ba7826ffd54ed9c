package store

import (
	"context"
	"time"
)

// A TerraformState is a named state of Terraform and who holds its lock.
type TerraformState struct {
	AccountID, Name string
	// Version is the number of the newest version; 0 while there is none.
	Version int64
	// LockID is empty while nobody holds the lock.
	LockID string
	// LockInfo is JSON about the holder; empty without a lock.
	LockInfo string
}

// TerraformStates is the table of Terraform states.
var TerraformStates = newTable("terraform_state", 2, `account_id name version lock_id lock_info`, func(s *TerraformState) []any {
	return []any{&s.AccountID, &s.Name, &s.Version, &s.LockID, &s.LockInfo}
})

// A TerraformStateVersion is one version of a Terraform state.
type TerraformStateVersion struct {
	AccountID, Name string
	// Version counts from 1.
	Version int64
	// Serial and Lineage are Terraform's.
	Serial  int64
	Lineage string
	// Size in bytes and Digest (SHA-256) are those of the content in clear.
	Size   int64
	Digest []byte
	// ContentID is the row of the sealed content.
	ContentID string
	CreatedAt time.Time
	CreatedBy string
}

// TerraformStateVersions is the table of versions.
var TerraformStateVersions = newTable("terraform_state_version", 3, `account_id name version serial lineage size digest content_id created_at created_by`,
	func(v *TerraformStateVersion) []any {
		return []any{
			&v.AccountID, &v.Name, &v.Version, &v.Serial, &v.Lineage, &v.Size, &v.Digest, &v.ContentID, stamp(&v.CreatedAt), &v.CreatedBy,
		}
	})

// AccountTerraformStates returns the states of an account by name.
func AccountTerraformStates(ctx context.Context, tx *Tx, accountID string) ([]TerraformState, error) {
	return TerraformStates.list(ctx, tx, "WHERE account_id = ? ORDER BY name", accountID)
}

// FindTerraformState returns a state; ErrNoRow when the account has none of the name.
func FindTerraformState(ctx context.Context, tx *Tx, accountID, name string) (TerraformState, error) {
	return TerraformStates.get(ctx, tx, "WHERE account_id = ? AND name = ?", accountID, name)
}

// StateVersions returns the versions of a state, newest first.
func StateVersions(ctx context.Context, tx *Tx, accountID, name string) ([]TerraformStateVersion, error) {
	return TerraformStateVersions.list(ctx, tx, "WHERE account_id = ? AND name = ? ORDER BY version DESC", accountID, name)
}

// FindStateVersion returns a version; ErrNoRow when there is none of the number.
func FindStateVersion(ctx context.Context, tx *Tx, accountID, name string, version int64) (TerraformStateVersion, error) {
	return TerraformStateVersions.get(ctx, tx, "WHERE account_id = ? AND name = ? AND version = ?", accountID, name, version)
}

// StateContent returns the sealed content of a version.
func StateContent(ctx context.Context, tx *Tx, id string) (sealed []byte, err error) {
	err = tx.one(ctx, "SELECT sealed FROM terraform_state_content WHERE id = ?", []any{id}, &sealed)
	return sealed, err
}

// AddStateContent keeps a sealed content.
func AddStateContent(ctx context.Context, tx *Tx, id string, sealed []byte) error {
	_, err := tx.exec(ctx, "INSERT INTO terraform_state_content (id, sealed) VALUES (?, ?)", id, sealed)
	return err
}

// TrimStateVersions forgets the versions of a state up to a number.
func TrimStateVersions(ctx context.Context, tx *Tx, accountID, name string, upTo int64) error {
	const old = "FROM terraform_state_version WHERE account_id = ? AND name = ? AND version <= ?"
	if _, err := tx.exec(ctx, "DELETE FROM terraform_state_content WHERE id IN (SELECT content_id "+old+")", accountID, name, upTo); err != nil {
		return err
	}
	_, err := tx.exec(ctx, "DELETE "+old, accountID, name, upTo)
	return err
}

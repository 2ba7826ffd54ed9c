package store

import (
	"context"
	"time"
)

// A SetupKey lets machines enrol.
type SetupKey struct {
	ID, AccountID string
	Seq           int64
	Name, Type    string
	// SHA256 is the hash of the secret.
	SHA256 []byte `json:"-"`
	// Hint is the beginning of the secret.
	Hint string
	// ExpiresIn is the life in seconds as it was asked for, 0 for ever;
	// ExpiresAt is then the zero time.
	ExpiresIn int
	ExpiresAt time.Time
	// UsageLimit is how many machines may enrol, 0 any number.
	UsageLimit, UsedTimes int
	LastUsed              time.Time
	Revoked               bool
	Ephemeral             bool
	AllowExtraDNSLabels   bool
	AutoGroups            []string
	CreatedAt, UpdatedAt  time.Time
	Version               int64
}

// SetupKeys is the table of setup keys.
var SetupKeys = newTable("setup_key", 1, `id account_id seq name type sha256 hint expires_in expires_at usage_limit used_times last_used
	revoked ephemeral allow_extra_dns_labels auto_groups created_at updated_at version`, func(k *SetupKey) []any {
	return []any{
		&k.ID, &k.AccountID, &k.Seq, &k.Name, &k.Type, &k.SHA256, &k.Hint, &k.ExpiresIn, stamp(&k.ExpiresAt), &k.UsageLimit,
		&k.UsedTimes, stamp(&k.LastUsed), &k.Revoked, &k.Ephemeral, &k.AllowExtraDNSLabels, inJSON(&k.AutoGroups),
		stamp(&k.CreatedAt), stamp(&k.UpdatedAt), &k.Version,
	}
})

// FindSetupKey returns a setup key of an account; ErrNoRow when it has none with the id.
func FindSetupKey(ctx context.Context, tx *Tx, accountID, id string) (SetupKey, error) {
	return SetupKeys.get(ctx, tx, "WHERE account_id = ? AND id = ?", accountID, id)
}

// FindSetupKeyBySecret returns the setup key with the hash; ErrNoRow when there is none.
func FindSetupKeyBySecret(ctx context.Context, tx *Tx, sum []byte) (SetupKey, error) {
	return SetupKeys.get(ctx, tx, "WHERE sha256 = ?", sum)
}

// AccountSetupKeys returns the setup keys of an account.
func AccountSetupKeys(ctx context.Context, tx *Tx, accountID string) ([]SetupKey, error) {
	return SetupKeys.list(ctx, tx, "WHERE account_id = ? ORDER BY seq", accountID)
}

// UseSetupKey counts one use. ok is false when the key is revoked, expired or
// used up at that moment; the condition and the count are one statement, so n
// uses let exactly n machines in.
func UseSetupKey(ctx context.Context, tx *Tx, id string, now time.Time) (ok bool, err error) {
	n, err := tx.exec(ctx, `UPDATE setup_key SET used_times = used_times + 1, last_used = ?
		WHERE id = ? AND NOT revoked AND (expires_at = 0 OR expires_at > ?) AND (usage_limit = 0 OR used_times < usage_limit)`,
		millis(now), id, millis(now))
	return n == 1, err
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// A Canary is one known value sealed with the master key.
type Canary struct {
	MasterKeyID string
	Sealed      []byte
}

// A DataKey is a key wrapped by a master key.
type DataKey struct {
	ID, MasterKeyID string
	Wrapped         []byte
	CreatedAt       time.Time
}

// DataKeys is the table of wrapped keys.
var DataKeys = newTable("data_key", 1, `id master_key_id wrapped created_at`, func(k *DataKey) []any {
	return []any{&k.ID, &k.MasterKeyID, &k.Wrapped, stamp(&k.CreatedAt)}
})

// SealedKeys returns the canary and the wrapped keys. The canary is the zero
// value in a fresh database.
func (s *Store) SealedKeys(ctx context.Context) (canary Canary, keys []DataKey, err error) {
	err = s.Read(ctx, func(tx *Tx) error {
		err := tx.one(ctx, "SELECT master_key_id, sealed FROM canary WHERE name = 'canary'", nil, &canary.MasterKeyID, &canary.Sealed)
		if err != nil && !errors.Is(err, ErrNoRow) {
			return err
		}
		keys, err = DataKeys.list(ctx, tx, "ORDER BY created_at, id")
		return err
	})
	return canary, keys, err
}

// InitSealedKeys keeps the canary and the first data key of a fresh database;
// ErrExists when it has them.
func (s *Store) InitSealedKeys(ctx context.Context, canary Canary, key DataKey) error {
	return s.Write(ctx, func(tx *Tx) error {
		if _, err := tx.exec(ctx, "INSERT INTO canary (name, master_key_id, sealed) VALUES ('canary', ?, ?)", canary.MasterKeyID, canary.Sealed); err != nil {
			return err
		}
		return DataKeys.Insert(ctx, tx, &key)
	})
}

// FindSecret returns a sealed value; ErrNoRow when there is none of the name.
func FindSecret(ctx context.Context, tx *Tx, name string) (sealed []byte, err error) {
	err = tx.one(ctx, "SELECT sealed FROM secret WHERE name = ?", []any{name}, &sealed)
	return sealed, err
}

// AddSecret keeps a sealed value unless there is one of the name.
func AddSecret(ctx context.Context, tx *Tx, name string, sealed []byte) error {
	_, err := tx.exec(ctx, "INSERT INTO secret (name, sealed) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", name, sealed)
	return err
}

// DeleteSecret removes a sealed value; none of the name is no error.
func DeleteSecret(ctx context.Context, tx *Tx, name string) error {
	_, err := tx.exec(ctx, "DELETE FROM secret WHERE name = ?", name)
	return err
}

// Secrets returns every sealed value by name.
func Secrets(ctx context.Context, tx *Tx) (map[string][]byte, error) {
	all := map[string][]byte{}
	err := tx.scan(ctx, "SELECT name, sealed FROM secret", nil, func(r *sql.Rows) error {
		var name string
		var sealed []byte
		err := r.Scan(&name, &sealed)
		all[name] = sealed
		return err
	})
	return all, err
}

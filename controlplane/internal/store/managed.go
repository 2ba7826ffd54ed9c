package store

import "context"

// A Managed says which program declares an object.
type Managed struct {
	// ID is that of a group, a policy, a user, whatever has an id of its own.
	ID, AccountID string
	// By is the name of the program: terraform.
	By string
}

var managed = newTable("managed", 1, `id account_id managed_by`, func(m *Managed) []any {
	return []any{&m.ID, &m.AccountID, &m.By}
})

// AccountManaged returns the objects of an account that a program declares.
func AccountManaged(ctx context.Context, tx *Tx, accountID string) ([]Managed, error) {
	return managed.list(ctx, tx, "WHERE account_id = ?", accountID)
}

// Manage notes which program declares an object. fresh is false when that was
// known before.
func Manage(ctx context.Context, tx *Tx, m Managed) (fresh bool, err error) {
	n, err := tx.exec(ctx, managed.sql.insert+" ON CONFLICT (id) DO UPDATE SET managed_by = excluded.managed_by WHERE managed.managed_by <> excluded.managed_by", managed.fields(&m)...)
	return n > 0, err
}

// Unmanage forgets which program declares objects that are gone.
func Unmanage(ctx context.Context, tx *Tx, ids []string) error {
	for chunk := range chunks(ids) {
		if _, err := tx.exec(ctx, "DELETE FROM managed WHERE id IN "+marks(len(chunk)), anys(chunk)...); err != nil {
			return err
		}
	}
	return nil
}

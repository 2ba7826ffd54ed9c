package store

import (
	"context"
	"time"
)

// An Invite lets a person take up an account with a password of their own. It stays as a record when they did.
type Invite struct {
	ID, AccountID     string
	Seq               int64
	Email, Name, Role string
	AutoGroups        []string
	// SHA256 is the hash of the secret.
	SHA256    []byte `json:"-"`
	CreatedBy string
	// ExpiresIn is the life in seconds that was asked for; a later link may have another.
	ExpiresIn            int
	CreatedAt, ExpiresAt time.Time
	// AcceptedAt is zero while nobody accepted it.
	AcceptedAt time.Time
	Version    int64
}

// Invites is the table of invites.
var Invites = newTable("invite", 1, `id account_id seq email name role auto_groups sha256 created_by expires_in created_at expires_at accepted_at version`,
	func(i *Invite) []any {
		return []any{
			&i.ID, &i.AccountID, &i.Seq, &i.Email, &i.Name, &i.Role, inJSON(&i.AutoGroups), &i.SHA256, &i.CreatedBy,
			&i.ExpiresIn, stamp(&i.CreatedAt), stamp(&i.ExpiresAt), stamp(&i.AcceptedAt), &i.Version,
		}
	})

// FindInvite returns an invite of an account; ErrNoRow when it has none with the id.
func FindInvite(ctx context.Context, tx *Tx, accountID, id string) (Invite, error) {
	return Invites.get(ctx, tx, "WHERE account_id = ? AND id = ?", accountID, id)
}

// FindInviteBySecret returns the invite with the hash; ErrNoRow when there is none that can still be accepted.
func FindInviteBySecret(ctx context.Context, tx *Tx, sum []byte) (Invite, error) {
	return Invites.get(ctx, tx, "WHERE sha256 = ? AND accepted_at = 0", sum)
}

// InvitesTo returns the invites of an account for an e-mail address, in capital
// letters or not.
func InvitesTo(ctx context.Context, tx *Tx, accountID, email string) ([]Invite, error) {
	return Invites.list(ctx, tx, "WHERE account_id = ? AND LOWER(email) = LOWER(?) ORDER BY seq", accountID, email)
}

// AccountInvites returns the invites of an account.
func AccountInvites(ctx context.Context, tx *Tx, accountID string) ([]Invite, error) {
	return Invites.list(ctx, tx, "WHERE account_id = ? ORDER BY seq", accountID)
}

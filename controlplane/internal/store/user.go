package store

import (
	"context"
	"time"
)

// A User is a person or a service user.
type User struct {
	ID, AccountID string
	Seq           int64
	Email, Name   string
	Role          string
	IsServiceUser bool
	IsBlocked     bool
	// PasswordHash is a PHC string; empty when the user has no password.
	PasswordHash string `json:"-"`
	// Invited is true for a person who never signed in.
	Invited bool
	// AutoGroups are the groups that machines of this person join.
	AutoGroups []string
	LastLogin  time.Time
	CreatedAt  time.Time
	Version    int64
}

// Users is the table of users.
var Users = newTable(`"user"`, 1, `id account_id seq email name role is_service_user is_blocked password_hash invited auto_groups
	last_login created_at version`,
	func(u *User) []any {
		return []any{
			&u.ID, &u.AccountID, &u.Seq, &u.Email, &u.Name, &u.Role, &u.IsServiceUser, &u.IsBlocked, &u.PasswordHash,
			&u.Invited, inJSON(&u.AutoGroups), stamp(&u.LastLogin), stamp(&u.CreatedAt), &u.Version,
		}
	})

// FindUser returns a user of an account; ErrNoRow when it has none with the id.
func FindUser(ctx context.Context, tx *Tx, accountID, id string) (User, error) {
	return Users.get(ctx, tx, "WHERE account_id = ? AND id = ?", accountID, id)
}

// UserRole returns what every write of a user asks, and whether the user holds
// the token; ErrNoRow when the account has no user with the id.
func UserRole(ctx context.Context, tx *Tx, accountID, id, tokenID string) (role string, blocked, holds bool, err error) {
	tokens := 0
	err = tx.one(ctx, `SELECT role, is_blocked, (SELECT COUNT(*) FROM token WHERE id = ? AND user_id = "user".id) FROM "user" WHERE account_id = ? AND id = ?`,
		[]any{tokenID, accountID, id}, &role, &blocked, &tokens)
	return role, blocked, tokens > 0, err
}

// AccountUsers returns the users of an account.
func AccountUsers(ctx context.Context, tx *Tx, accountID string) ([]User, error) {
	return Users.list(ctx, tx, "WHERE account_id = ? ORDER BY seq", accountID)
}

// UserWithEmail returns the id of the person with an e-mail address, in capital
// letters or not; empty when there is none.
func UserWithEmail(ctx context.Context, tx *Tx, accountID, email string) (string, error) {
	return optionalText(ctx, tx, `SELECT id FROM "user" WHERE account_id = ? AND email <> '' AND LOWER(email) = LOWER(?)`, accountID, email)
}

// CountOwners returns how many owners of an account are not blocked, one user
// left out.
func CountOwners(ctx context.Context, tx *Tx, accountID, except string) (n int, err error) {
	err = tx.one(ctx, `SELECT COUNT(*) FROM "user" WHERE account_id = ? AND role = 'owner' AND is_blocked = ? AND id <> ?`, []any{accountID, false, except}, &n)
	return n, err
}

// A Token is an access token of a user.
type Token struct {
	ID, AccountID, UserID string
	Seq                   int64
	Name                  string
	// SHA256 is the hash of the secret.
	SHA256 []byte `json:"-"`
	// Hint is the prefix and the last four characters of the secret.
	Hint      string
	CreatedBy string
	CreatedAt time.Time
	ExpiresAt time.Time
	// ExpiresIn is the life in days as it was asked for.
	ExpiresIn int
	LastUsed  time.Time
	Version   int64
}

// Tokens is the table of access tokens.
var Tokens = newTable("token", 1, `id account_id user_id seq name sha256 hint created_by created_at expires_at expires_in last_used version`,
	func(t *Token) []any {
		return []any{
			&t.ID, &t.AccountID, &t.UserID, &t.Seq, &t.Name, &t.SHA256, &t.Hint, &t.CreatedBy, stamp(&t.CreatedAt),
			stamp(&t.ExpiresAt), &t.ExpiresIn, stamp(&t.LastUsed), &t.Version,
		}
	})

// FindToken returns a token of a user; ErrNoRow when it has none with the id.
func FindToken(ctx context.Context, tx *Tx, accountID, userID, id string) (Token, error) {
	return Tokens.get(ctx, tx, "WHERE account_id = ? AND user_id = ? AND id = ?", accountID, userID, id)
}

// UserTokens returns the tokens of a user.
func UserTokens(ctx context.Context, tx *Tx, accountID, userID string) ([]Token, error) {
	return Tokens.list(ctx, tx, "WHERE account_id = ? AND user_id = ? ORDER BY seq", accountID, userID)
}

// AccountTokens returns the tokens of an account.
func AccountTokens(ctx context.Context, tx *Tx, accountID string) ([]Token, error) {
	return Tokens.list(ctx, tx, "WHERE account_id = ? ORDER BY seq", accountID)
}

// TouchToken notes the use of a token.
func TouchToken(ctx context.Context, tx *Tx, id string, at time.Time) error {
	_, err := tx.exec(ctx, "UPDATE token SET last_used = ? WHERE id = ?", millis(at), id)
	return err
}

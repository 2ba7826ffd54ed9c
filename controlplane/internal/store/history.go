package store

import (
	"context"
	"errors"
	"time"
)

// An AuditEntry is one event of an account's audit.
type AuditEntry struct {
	AccountID string
	// N numbers the events of the account from 1 without a gap.
	N                                          int64
	CreatedAt                                  time.Time
	Activity                                   string
	InitiatorID, InitiatorName, InitiatorEmail string
	TargetID                                   string
	Channel, RequestID                         string
	// Meta, Before and After are JSON; Before and After may be empty.
	Meta, Before, After string
	// Hash covers this entry and the hash of the one before.
	Hash []byte
}

var audit = newTable("audit", 2, `account_id n created_at activity initiator_id initiator_name initiator_email target_id channel request_id
	meta before after hash`, func(e *AuditEntry) []any {
	return []any{
		&e.AccountID, &e.N, stamp(&e.CreatedAt), &e.Activity, &e.InitiatorID, &e.InitiatorName, &e.InitiatorEmail, &e.TargetID,
		&e.Channel, &e.RequestID, &e.Meta, &e.Before, &e.After, &e.Hash,
	}
})

// AddAuditEvent appends an event, whose number and hash follow those of AuditHead.
func AddAuditEvent(ctx context.Context, tx *Tx, e *AuditEntry) error {
	if err := audit.Insert(ctx, tx, e); err != nil {
		return err
	}
	if at, taken := tx.heads.of(e.AccountID); taken {
		at.events, at.hash, at.read = e.N, e.Hash, true
		tx.heads.own[e.AccountID] = at
	}
	return nil
}

// AuditHead returns number and hash of the newest event; 0 and nil when there is none.
func AuditHead(ctx context.Context, tx *Tx, accountID string) (n int64, hash []byte, err error) {
	if at, _ := tx.heads.of(accountID); at.read {
		return at.events, at.hash, nil
	}
	err = tx.one(ctx, "SELECT n, hash FROM audit WHERE account_id = ? ORDER BY n DESC LIMIT 1", []any{accountID}, &n, &hash)
	if errors.Is(err, ErrNoRow) {
		err = nil
	}
	return n, hash, err
}

// An AuditFilter says which events are wanted; the zero value wants all.
type AuditFilter struct {
	Activity, InitiatorID, TargetID string
	// Since is included, Until is not.
	Since, Until time.Time
}

// where is the filter as the end of a condition, with its arguments.
func (f AuditFilter) where() (text string, args []any) {
	for _, part := range []struct {
		wanted    bool
		condition string
		value     any
	}{
		{f.Activity != "", " AND activity = ?", f.Activity},
		{f.InitiatorID != "", " AND initiator_id = ?", f.InitiatorID},
		{f.TargetID != "", " AND target_id = ?", f.TargetID},
		{!f.Since.IsZero(), " AND created_at >= ?", millis(f.Since)},
		{!f.Until.IsZero(), " AND created_at < ?", millis(f.Until)},
	} {
		if part.wanted {
			text, args = text+part.condition, append(args, part.value)
		}
	}
	return text, args
}

// AuditBefore returns up to limit events with numbers below n that fit a filter,
// newest first.
func AuditBefore(ctx context.Context, tx *Tx, accountID string, n int64, limit int, filter AuditFilter) ([]AuditEntry, error) {
	where, args := filter.where()
	args = append(append([]any{accountID, n}, args...), limit)
	return audit.list(ctx, tx, "WHERE account_id = ? AND n < ?"+where+" ORDER BY n DESC LIMIT ?", args...)
}

// FindAuditEvent returns one event; ErrNoRow when the account has none of the number.
func FindAuditEvent(ctx context.Context, tx *Tx, accountID string, n int64) (AuditEntry, error) {
	return audit.get(ctx, tx, "WHERE account_id = ? AND n = ?", accountID, n)
}

// AuditFrom returns up to limit events from number n on, oldest first.
func AuditFrom(ctx context.Context, tx *Tx, accountID string, n int64, limit int) ([]AuditEntry, error) {
	return audit.list(ctx, tx, "WHERE account_id = ? AND n >= ? ORDER BY n LIMIT ?", accountID, n, limit)
}

// A StoredAnswer is what was answered to the request of an Idempotency-Key.
type StoredAnswer struct {
	Caller, Key string
	RequestHash []byte
	// Status is 0 while the answer is unknown.
	Status    int
	Sealed    bool
	Answer    []byte
	ExpiresAt time.Time
}

// Answers is the table of idempotent answers.
var Answers = newTable("idempotency", 2, `caller key request_hash status sealed answer expires_at`, func(a *StoredAnswer) []any {
	return []any{&a.Caller, &a.Key, &a.RequestHash, &a.Status, &a.Sealed, &a.Answer, stamp(&a.ExpiresAt)}
})

// FindAnswer returns the answer of a key that has not expired; ErrNoRow when there is none.
func FindAnswer(ctx context.Context, tx *Tx, caller, key string, now time.Time) (StoredAnswer, error) {
	return Answers.get(ctx, tx, "WHERE caller = ? AND key = ? AND expires_at > ?", caller, key, millis(now))
}

// TrimAnswers forgets expired answers, and the sealed ones that expire before
// sealedUntil; of those the key stays.
func TrimAnswers(ctx context.Context, tx *Tx, now, sealedUntil time.Time) error {
	_, err := tx.exec(ctx, "UPDATE idempotency SET status = 0, sealed = ?, answer = ? WHERE sealed AND expires_at < ?", false, []byte{}, millis(sealedUntil))
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, "DELETE FROM idempotency WHERE expires_at <= ?", millis(now))
	return err
}

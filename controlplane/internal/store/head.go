package store

import (
	"context"
	"maps"
)

// A head is where the history of an account stands inside a transaction.
//
//	first write          takes the row of the account, and with it the lock on the history
//	each further write   goes on from the head that the one before left
//	COMMIT               is preceded by writing the row back, if it is not what the head says
//
// Nobody else can move the history while the lock is held, so that writes which share a transaction read and write its
// row and the newest audit event once, and not once each.
type head struct {
	account Account // as the transaction leaves it
	row     Account // as it stands in the database

	events int64  // number of the newest audit event
	hash   []byte // of that event
	read   bool   // events and hash are known
}

// heads are those of the transaction under way.
type heads struct {
	kept map[string]head // by account, as the writes before this one left them
	own  map[string]head // as this write leaves them
}

func newHeads() *heads { return &heads{kept: map[string]head{}, own: map[string]head{}} }

// reset begins a transaction.
func (h *heads) reset() {
	clear(h.kept)
	clear(h.own)
}

// begin begins a write; what one before it left without keep is forgotten.
func (h *heads) begin() { clear(h.own) }

// keep ends a write that happened.
func (h *heads) keep() { maps.Copy(h.kept, h.own) }

// of returns the head of an account; ok is false while nobody took its row, and for readers.
func (h *heads) of(accountID string) (at head, ok bool) {
	if h == nil {
		return at, false
	}
	if at, ok = h.own[accountID]; !ok {
		at, ok = h.kept[accountID]
	}
	return at, ok
}

// writeBack brings the rows of accounts to where their heads are.
func (h *heads) writeBack(ctx context.Context, tx *Tx) error {
	for _, at := range h.kept {
		if at.account == at.row {
			continue
		}
		if err := Accounts.Update(ctx, tx, &at.account); err != nil {
			return err
		}
	}
	return nil
}

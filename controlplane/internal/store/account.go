package store

import (
	"context"
	"time"
)

// An Account is one network: its settings and the counters of its history.
type Account struct {
	ID string
	// Serial counts the writes; Epoch names the history of serials.
	Serial int64
	Epoch  string
	// Version counts the changes of the settings.
	Version int64
	// NextOrdinal is the lowest ordinal that was never given.
	NextOrdinal uint32
	// Network and NetworkV6 are the overlay ranges in CIDR form.
	Network, NetworkV6    string
	DNSDomain             string
	PeerApproval          bool
	OnboardingFlowPending bool
	SignupFormPending     bool
	Domain                string
	// Settings is JSON: the settings without a column of their own.
	Settings  string
	CreatedAt time.Time
	CreatedBy string
}

// Accounts is the table of accounts.
var Accounts = newTable("account", 1, `id serial epoch version next_ordinal network network_v6 dns_domain peer_approval
	onboarding_flow_pending signup_form_pending domain settings created_at created_by`, func(a *Account) []any {
	return []any{
		&a.ID, &a.Serial, &a.Epoch, &a.Version, &a.NextOrdinal, &a.Network, &a.NetworkV6, &a.DNSDomain, &a.PeerApproval,
		&a.OnboardingFlowPending, &a.SignupFormPending, &a.Domain, &a.Settings, stamp(&a.CreatedAt), &a.CreatedBy,
	}
})

// NextSerial gives this write its place in the history of the account and
// returns the account with the new serial. The row stays locked until the
// transaction ends, which orders all writes of an account.
func NextSerial(ctx context.Context, tx *Tx, id string) (Account, error) {
	at, taken := tx.heads.of(id)
	if taken {
		at.account.Serial++
	} else {
		err := tx.one(ctx, "UPDATE account SET serial = serial + 1 WHERE id = ? RETURNING "+Accounts.columns, []any{id}, Accounts.fields(&at.row)...)
		if err != nil {
			return Account{}, err
		}
		at.account = at.row
	}
	tx.heads.own[id] = at
	return at.account, nil
}

// KeepAccount makes a what the account is from this write on: its row is written
// once, before the transaction ends. The account must come from NextSerial.
func KeepAccount(tx *Tx, a Account) {
	at := tx.heads.own[a.ID]
	at.account = a
	tx.heads.own[a.ID] = at
}

// AllAccounts returns every account in the order of creation.
func AllAccounts(ctx context.Context, tx *Tx) ([]Account, error) {
	return Accounts.list(ctx, tx, "ORDER BY created_at, id")
}

// ClaimInstallation marks the installation as set up by an account. ok is false
// when that happened before: of any number of calls one wins.
func ClaimInstallation(ctx context.Context, tx *Tx, accountID string, now time.Time) (ok bool, err error) {
	n, err := tx.exec(ctx, "INSERT INTO installation (name, account_id, created_at) VALUES ('owner', ?, ?) ON CONFLICT (name) DO NOTHING", accountID, millis(now))
	return n == 1, err
}

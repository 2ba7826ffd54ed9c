package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// A Peer is an enrolled machine.
type Peer struct {
	ID, AccountID string
	Seq           int64
	// Ordinal is dense and unique in the account.
	Ordinal uint32
	Name    string
	// Renamed says that an administrator chose the name, so that it does not follow
	// what the machine calls itself.
	Renamed  bool
	DNSLabel string
	// ExtraDNSLabels are further labels; AddLabels keeps them unique.
	ExtraDNSLabels []string
	// IP and IPv6 are the overlay addresses.
	IP, IPv6     string
	MachineKey   []byte
	WireGuardKey []byte
	// NextWireGuardKey is the key that the machine will change over to; nil for none.
	NextWireGuardKey []byte
	ApprovalRequired bool
	Ephemeral        bool
	SSHEnabled       bool
	// LoginExpirationEnabled and InactivityExpirationEnabled are for peers
	// that a person enrolled.
	LoginExpirationEnabled, InactivityExpirationEnabled bool
	// SetupKeyID or UserID says how it enrolled; the other is empty.
	SetupKeyID, UserID string
	CreatedAt          time.Time
	Version            int64
}

// Peers is the table of peers.
var Peers = newTable("peer", 1, `id account_id seq ordinal name dns_label extra_dns_labels ip ipv6 machine_key wireguard_key next_wireguard_key approval_required
	ephemeral ssh_enabled login_expiration_enabled inactivity_expiration_enabled setup_key_id user_id created_at version renamed`, func(p *Peer) []any {
	return []any{
		&p.ID, &p.AccountID, &p.Seq, &p.Ordinal, &p.Name, &p.DNSLabel, inJSON(&p.ExtraDNSLabels), &p.IP, &p.IPv6, &p.MachineKey, &p.WireGuardKey, &p.NextWireGuardKey,
		&p.ApprovalRequired, &p.Ephemeral, &p.SSHEnabled, &p.LoginExpirationEnabled, &p.InactivityExpirationEnabled, &p.SetupKeyID, &p.UserID, stamp(&p.CreatedAt), &p.Version, &p.Renamed,
	}
})

// FindPeer returns a peer of an account; ErrNoRow when it has none with the id.
func FindPeer(ctx context.Context, tx *Tx, accountID, id string) (Peer, error) {
	return Peers.get(ctx, tx, "WHERE account_id = ? AND id = ?", accountID, id)
}

// PeersByKey returns the peers, of any account, that have one of the keys, the
// WireGuard key as the one in use or as the next one: three at most.
func PeersByKey(ctx context.Context, tx *Tx, machineKey, wireguardKey []byte) ([]Peer, error) {
	return Peers.list(ctx, tx, "WHERE machine_key = ? OR wireguard_key = ? OR next_wireguard_key = ?", machineKey, wireguardKey, wireguardKey)
}

// AccountPeers returns the peers of an account.
func AccountPeers(ctx context.Context, tx *Tx, accountID string) ([]Peer, error) {
	return Peers.list(ctx, tx, "WHERE account_id = ? ORDER BY seq", accountID)
}

// KnownPeers returns those of the ids that are peers of the account.
func KnownPeers(ctx context.Context, tx *Tx, accountID string, ids []string) (map[string]bool, error) {
	known := map[string]bool{}
	for chunk := range chunks(ids) {
		args := append([]any{accountID}, anys(chunk)...)
		err := tx.scan(ctx, "SELECT id FROM peer WHERE account_id = ? AND id IN "+marks(len(chunk)), args, func(r *sql.Rows) error {
			var id string
			err := r.Scan(&id)
			known[id] = true
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return known, nil
}

// PeerWithAddress returns the id of the peer that has an overlay address of
// either family; empty when none has.
func PeerWithAddress(ctx context.Context, tx *Tx, accountID, ip string) (string, error) {
	return optionalText(ctx, tx, "SELECT id FROM peer WHERE account_id = ? AND (ip = ? OR ipv6 = ?)", accountID, ip, ip)
}

// PeerWithLabel returns the id of the peer that has a DNS label, as its own or
// as an extra one; empty when none has.
func PeerWithLabel(ctx context.Context, tx *Tx, accountID, label string) (string, error) {
	return optionalText(ctx, tx, `SELECT id FROM peer WHERE account_id = ? AND dns_label = ?
		UNION ALL SELECT peer_id FROM peer_label WHERE account_id = ? AND label = ? LIMIT 1`, accountID, label, accountID, label)
}

// AddLabels keeps the extra DNS labels of a new peer apart from those of all
// others; ErrExists when one is taken. They go with the peer.
func AddLabels(ctx context.Context, tx *Tx, accountID, peerID string, labels []string) error {
	for _, label := range labels {
		if _, err := tx.exec(ctx, "INSERT INTO peer_label (account_id, label, peer_id) VALUES (?, ?, ?)", accountID, label, peerID); err != nil {
			return err
		}
	}
	return nil
}

// FreeOrdinal puts an ordinal into quarantine.
func FreeOrdinal(ctx context.Context, tx *Tx, accountID string, ordinal uint32, now time.Time) error {
	_, err := tx.exec(ctx, "INSERT INTO freed_ordinal (account_id, ordinal, freed_at) VALUES (?, ?, ?)", accountID, ordinal, millis(now))
	return err
}

// ReuseOrdinal takes the lowest ordinal that was freed before a time out of
// quarantine; ok is false when there is none.
func ReuseOrdinal(ctx context.Context, tx *Tx, accountID string, before time.Time) (ordinal uint32, ok bool, err error) {
	err = tx.one(ctx, "SELECT ordinal FROM freed_ordinal WHERE account_id = ? AND freed_at <= ? ORDER BY ordinal LIMIT 1",
		[]any{accountID, millis(before)}, &ordinal)
	if errors.Is(err, ErrNoRow) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	_, err = tx.exec(ctx, "DELETE FROM freed_ordinal WHERE account_id = ? AND ordinal = ?", accountID, ordinal)
	return ordinal, err == nil, err
}

// A Presence is when and whence a peer was seen last and what it told about itself.
type Presence struct {
	PeerID       string
	LastSeen     time.Time
	ConnectionIP string
	// Facts is JSON.
	Facts string
}

// PutPresence writes presence rows; a peer that is gone is passed over.
func PutPresence(ctx context.Context, tx *Tx, rows []Presence) error {
	for _, r := range rows {
		_, err := tx.exec(ctx, `INSERT INTO presence (peer_id, last_seen, connection_ip, facts)
			SELECT id, ?, ?, ? FROM peer WHERE id = ?
			ON CONFLICT (peer_id) DO UPDATE SET last_seen = excluded.last_seen, connection_ip = excluded.connection_ip, facts = excluded.facts`,
			millis(r.LastSeen), r.ConnectionIP, r.Facts, r.PeerID)
		if err != nil {
			return err
		}
	}
	return nil
}

// AccountPresence returns the presence rows of an account's peers.
func AccountPresence(ctx context.Context, tx *Tx, accountID string) (rows []Presence, err error) {
	err = tx.scan(ctx, "SELECT s.peer_id, s.last_seen, s.connection_ip, s.facts FROM presence s JOIN peer p ON p.id = s.peer_id WHERE p.account_id = ?",
		[]any{accountID}, func(r *sql.Rows) error {
			var row Presence
			err := r.Scan(&row.PeerID, stamp(&row.LastSeen), &row.ConnectionIP, &row.Facts)
			rows = append(rows, row)
			return err
		})
	return rows, err
}

package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"iter"
	"slices"
	"time"
)

// The kinds of objects and of what refers to them.
const (
	KindGroup           = "group"
	KindPolicy          = "policy"
	KindPostureCheck    = "posture-check"
	KindSetupKey        = "setup-key"
	KindPeer            = "peer"
	KindUser            = "user"
	KindInvite          = "invite"
	KindAccount         = "account"
	KindNetwork         = "network"
	KindNetworkResource = "network-resource"
	KindNetworkRouter   = "network-router"
	KindRoute           = "route"
	KindDNSZone         = "dns-zone"
	KindDNSRecord       = "dns-record"

	KindIdentityProvider = "identity-provider"
)

// An Object is a noun that is kept as JSON.
type Object struct {
	ID, AccountID, Kind string
	Seq                 int64
	Name                string
	// NameKey is unique in the account and kind; nil when names may repeat.
	NameKey   *string
	CreatedAt time.Time
	Version   int64
	// Body is JSON.
	Body string
}

// Objects is the table of objects.
var Objects = newTable("object", 1, `id account_id kind seq name name_key created_at version body`, func(o *Object) []any {
	return []any{&o.ID, &o.AccountID, &o.Kind, &o.Seq, &o.Name, &o.NameKey, stamp(&o.CreatedAt), &o.Version, &o.Body}
})

// FindObject returns an object of an account; ErrNoRow when it has none of the kind with the id.
func FindObject(ctx context.Context, tx *Tx, accountID, kind, id string) (Object, error) {
	return Objects.get(ctx, tx, "WHERE account_id = ? AND kind = ? AND id = ?", accountID, kind, id)
}

// FindObjectByKey returns the object of a kind that has a unique value; ErrNoRow when none has it.
func FindObjectByKey(ctx context.Context, tx *Tx, accountID, kind, key string) (Object, error) {
	return Objects.get(ctx, tx, "WHERE account_id = ? AND kind = ? AND name_key = ?", accountID, kind, key)
}

// AccountObjects returns the objects of an account.
func AccountObjects(ctx context.Context, tx *Tx, accountID string) ([]Object, error) {
	return Objects.list(ctx, tx, "WHERE account_id = ? ORDER BY seq", accountID)
}

// ObjectsByID returns the objects of a kind whose id is in the list, in the order of their creation.
func ObjectsByID(ctx context.Context, tx *Tx, accountID, kind string, ids []string) ([]Object, error) {
	all, err := objectsWith(ctx, tx, accountID, kind, "id", ids)
	slices.SortFunc(all, func(x, y Object) int { return cmp.Compare(x.Seq, y.Seq) })
	return all, err
}

// ObjectsByKey returns the objects of a kind whose unique value is in the list.
func ObjectsByKey(ctx context.Context, tx *Tx, accountID, kind string, keys []string) ([]Object, error) {
	return objectsWith(ctx, tx, accountID, kind, "name_key", keys)
}

func objectsWith(ctx context.Context, tx *Tx, accountID, kind, column string, values []string) (all []Object, err error) {
	for chunk := range chunks(values) {
		args := append([]any{accountID, kind}, anys(chunk)...)
		rows, err := Objects.list(ctx, tx, "WHERE account_id = ? AND kind = ? AND "+column+" IN "+marks(len(chunk)), args...)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

// RecordsNamed returns the DNS records of a name, of every zone.
func RecordsNamed(ctx context.Context, tx *Tx, accountID, name string) ([]Object, error) {
	// The kind stands in the text: the index by name holds records only.
	return Objects.list(ctx, tx, "WHERE account_id = ? AND kind = '"+KindDNSRecord+"' AND name = ?", accountID, name)
}

// RaiseVersions counts a change of each object.
func RaiseVersions(ctx context.Context, tx *Tx, ids []string) error {
	for chunk := range chunks(ids) {
		if _, err := tx.exec(ctx, "UPDATE object SET version = version + 1 WHERE id IN "+marks(len(chunk)), anys(chunk)...); err != nil {
			return err
		}
	}
	return nil
}

// A Membership is the edge between a group and a peer.
type Membership struct {
	GroupID, PeerID string
	AccountID       string
	// Position orders the members of a group.
	Position int64
	// Source is api, jwt or key.
	Source string
}

// Memberships is the table of memberships.
var Memberships = newTable("membership", 2, `group_id peer_id account_id position source`, func(m *Membership) []any {
	return []any{&m.GroupID, &m.PeerID, &m.AccountID, &m.Position, &m.Source}
})

// AccountMemberships returns the edges of an account.
func AccountMemberships(ctx context.Context, tx *Tx, accountID string) ([]Membership, error) {
	return Memberships.list(ctx, tx, "WHERE account_id = ? ORDER BY position", accountID)
}

// GroupMembers returns the edges of a group in their order.
func GroupMembers(ctx context.Context, tx *Tx, groupID string) ([]Membership, error) {
	return Memberships.list(ctx, tx, "WHERE group_id = ? ORDER BY position", groupID)
}

// PeerMemberships returns the edges of a peer.
func PeerMemberships(ctx context.Context, tx *Tx, peerID string) ([]Membership, error) {
	return Memberships.list(ctx, tx, "WHERE peer_id = ? ORDER BY position", peerID)
}

// FindMembership returns the edge between a group and a peer; ErrNoRow when there is none.
func FindMembership(ctx context.Context, tx *Tx, groupID, peerID string) (Membership, error) {
	return Memberships.get(ctx, tx, "WHERE group_id = ? AND peer_id = ?", groupID, peerID)
}

// A Ref says that one object names another.
type Ref struct {
	FromKind, FromID string
	// Field is where, such as rules.sources.
	Field        string
	ToKind, ToID string
}

// SetRefs makes refs the references of an object, in place of those it had.
func SetRefs(ctx context.Context, tx *Tx, accountID, fromKind, fromID string, refs []Ref) error {
	if _, err := tx.exec(ctx, "DELETE FROM object_ref WHERE from_kind = ? AND from_id = ?", fromKind, fromID); err != nil {
		return err
	}
	for _, r := range refs {
		_, err := tx.exec(ctx, `INSERT INTO object_ref (account_id, from_kind, from_id, field, to_kind, to_id) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (from_kind, from_id, field, to_kind, to_id) DO NOTHING`, accountID, fromKind, fromID, r.Field, r.ToKind, r.ToID)
		if err != nil {
			return err
		}
	}
	return nil
}

// RefsTo returns the references to an object, in a stable order.
func RefsTo(ctx context.Context, tx *Tx, accountID, toKind, toID string) (refs []Ref, err error) {
	err = tx.scan(ctx, `SELECT from_kind, from_id, field, to_kind, to_id FROM object_ref
		WHERE account_id = ? AND to_kind = ? AND to_id = ? ORDER BY from_kind, from_id, field`, []any{accountID, toKind, toID},
		func(r *sql.Rows) error {
			var ref Ref
			err := r.Scan(&ref.FromKind, &ref.FromID, &ref.Field, &ref.ToKind, &ref.ToID)
			refs = append(refs, ref)
			return err
		})
	return refs, err
}

// chunks keeps the number of placeholders of one statement bounded.
func chunks(list []string) iter.Seq[[]string] { return slices.Chunk(list, 200) }

// optionalText returns the text that a query finds, or "" when it finds no row.
func optionalText(ctx context.Context, tx *Tx, query string, args ...any) (text string, err error) {
	if err = tx.one(ctx, query, args, &text); errors.Is(err, ErrNoRow) {
		return "", nil
	}
	return text, err
}

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/controlplane/internal/store/storetest"
)

// engines are the databases that the conformance suite runs on. Each value prepares one and returns how to make a
// store on a fresh database of it.
var engines = map[string]func(t *testing.T) func(t *testing.T) *Store{
	"sqlite": func(*testing.T) func(t *testing.T) *Store {
		return func(t *testing.T) *Store { return open(t, filepath.Join(t.TempDir(), "control.db")) }
	},
	"postgres": func(t *testing.T) func(t *testing.T) *Store {
		server := storetest.Start(t)
		return func(t *testing.T) *Store { return opened(t, postgresConfig(server.Fresh(t))) }
	},
}

func config(path string) Config {
	return Config{Path: path, Logger: slog.New(slog.DiscardHandler), BusyTimeout: 50 * time.Millisecond}
}

func postgresConfig(address string) Config {
	return Config{Postgres: address, Logger: slog.New(slog.DiscardHandler), BusyTimeout: 2 * time.Second}
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	return opened(t, config(path))
}

func opened(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	return closing(t, s, err)
}

// closing is a store that was opened and closes with its test.
func closing(t *testing.T, s *Store, err error) *Store {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var at = time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)

func someAccount(id string) Account {
	return Account{ID: id, Epoch: "e", Version: 1, NextOrdinal: 1, Network: "100.64.0.0/16", NetworkV6: "fd00::/48", DNSDomain: "d", Settings: "{}", CreatedAt: at}
}

func TestConformance(t *testing.T) {
	for name, engine := range engines {
		t.Run(name, func(t *testing.T) {
			fresh := engine(t)
			for rule, test := range map[string]func(t *testing.T, s *Store){
				"rows round trip": rowsRoundTrip, "history has no gaps": historyHasNoGaps, "writes are whole": writesAreWhole,
				"order of after": afterInOrder, "keys are unique": keysAreUnique, "one installation": oneInstallation,
				"conditional use": conditionalUse, "references": references,
				"a read is one moment": readIsOneMoment, "a refusal that is passed over": refusalPassedOver, "answers": answers, "audit": auditRows,
				"sealed": sealed, "ordinals": ordinals, "lookups": lookups, "terraform states": terraformStates, "who declares": whoDeclares,
			} {
				t.Run(rule, func(t *testing.T) { test(t, fresh(t)) })
			}
		})
	}
}

func mustWrite(t *testing.T, s *Store, fn func(ctx context.Context, tx *Tx) error) {
	t.Helper()
	if err := s.Write(t.Context(), func(tx *Tx) error { return fn(t.Context(), tx) }); err != nil {
		t.Fatal(err)
	}
}

func rowsRoundTrip(t *testing.T, s *Store) {
	a := someAccount("a")
	u := User{ID: "u", AccountID: "a", Seq: 1, Email: "x@y", Name: "ü", Role: "owner", Invited: true, AutoGroups: []string{"g"}, CreatedAt: at, Version: 1}
	tok := Token{ID: "t", AccountID: "a", UserID: "u", Seq: 2, SHA256: []byte{0, 1, 255}, CreatedAt: at, ExpiresAt: at.Add(time.Hour), ExpiresIn: 1, Version: 1}
	k := SetupKey{ID: "k", AccountID: "a", Seq: 3, Name: "k", SHA256: []byte{9}, AutoGroups: []string{"g"}, Revoked: true, CreatedAt: at, UpdatedAt: at, Version: 1}
	p := Peer{ID: "p", AccountID: "a", Seq: 4, Ordinal: 4_000_000_000, MachineKey: []byte{1}, WireGuardKey: []byte{2}, ExtraDNSLabels: []string{"x"}, SSHEnabled: true, InactivityExpirationEnabled: true, CreatedAt: at, Version: 1}
	inv := Invite{ID: "i", AccountID: "a", Seq: 8, Email: "New@y", Name: "n", Role: "user", SHA256: []byte{7}, ExpiresIn: 3600, CreatedAt: at, ExpiresAt: at.Add(time.Hour), Version: 1}
	key := "api/g"
	o := Object{ID: "g", AccountID: "a", Kind: KindGroup, Seq: 5, Name: "g", NameKey: &key, CreatedAt: at, Version: 1, Body: "{}"}
	free := Object{ID: "q", AccountID: "a", Kind: KindPolicy, Seq: 6, Name: "q", CreatedAt: at, Version: 1, Body: "{}"}
	m := Membership{GroupID: "g", PeerID: "p", AccountID: "a", Position: 7, Source: "api"}
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		return errors.Join(Accounts.Insert(ctx, tx, &a), Users.Insert(ctx, tx, &u), Tokens.Insert(ctx, tx, &tok), SetupKeys.Insert(ctx, tx, &k),
			Peers.Insert(ctx, tx, &p), Objects.Insert(ctx, tx, &o), Objects.Insert(ctx, tx, &free), Invites.Insert(ctx, tx, &inv), Memberships.Insert(ctx, tx, &m),
			PutPresence(ctx, tx, []Presence{{PeerID: "p", LastSeen: at, Facts: "{}"}, {PeerID: "gone", LastSeen: at, Facts: "{}"}}))
	})
	p.Name = "renamed"
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		return errors.Join(Peers.Update(ctx, tx, &p), RaiseVersions(ctx, tx, []string{"g"}))
	})
	o.Version = 2
	err := s.Read(t.Context(), func(tx *Tx) error {
		ctx := t.Context()
		same(t, []Account{a})(AllAccounts(ctx, tx))
		same(t, []User{u})(AccountUsers(ctx, tx, "a"))
		same(t, []Token{tok})(AccountTokens(ctx, tx, "a"))
		same(t, []Token{tok})(UserTokens(ctx, tx, "a", "u"))
		same(t, "u")(UserWithEmail(ctx, tx, "a", "X@Y"))
		same(t, "")(UserWithEmail(ctx, tx, "a", "z@y"))
		same(t, 1)(CountOwners(ctx, tx, "a", "other"))
		same(t, 0)(CountOwners(ctx, tx, "a", "u"))
		same(t, []SetupKey{k})(AccountSetupKeys(ctx, tx, "a"))
		same(t, []Peer{p})(AccountPeers(ctx, tx, "a"))
		same(t, []Invite{inv})(AccountInvites(ctx, tx, "a"))
		same(t, []Invite{inv})(InvitesTo(ctx, tx, "a", "new@Y"))
		same(t, inv)(FindInvite(ctx, tx, "a", "i"))
		same(t, inv)(FindInviteBySecret(ctx, tx, []byte{7}))
		same(t, []Object{o, free})(AccountObjects(ctx, tx, "a"))
		same(t, []Membership{m})(AccountMemberships(ctx, tx, "a"))
		same(t, []Presence{{PeerID: "p", LastSeen: at, Facts: "{}"}})(AccountPresence(ctx, tx, "a"))
		_, err := FindPeer(ctx, tx, "b", "p") // another account
		if !errors.Is(err, ErrNoRow) {
			t.Error("a peer was found in another account", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func same[T any](t *testing.T, want T) func(got T, err error) {
	return func(got T, err error) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
	}
}

func writesAreWhole(t *testing.T, s *Store) {
	a, b := someAccount("a"), someAccount("b")
	err := s.Write(t.Context(), func(tx *Tx) error {
		if err := Accounts.Insert(t.Context(), tx, &a); err != nil {
			return err
		}
		panic("in the middle")
	})
	if err == nil || !strings.Contains(err.Error(), "in the middle") {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(ctx, func(tx *Tx) error { return Accounts.Insert(t.Context(), tx, &b) }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	err = s.Read(t.Context(), func(tx *Tx) error {
		same(t, []Account(nil))(AllAccounts(t.Context(), tx))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func afterInOrder(t *testing.T, s *Store) {
	a := someAccount("a")
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error { return Accounts.Insert(ctx, tx, &a) })
	var seen []int64 // only After functions touch it, one at a time
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			err := s.Write(t.Context(), func(tx *Tx) error {
				row, err := NextSerial(t.Context(), tx, "a")
				tx.After(func() { seen = append(seen, row.Serial) })
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i, serial := range seen {
		if serial != int64(i+1) || len(seen) != 100 {
			t.Fatalf("place %d of %d holds serial %d", i, len(seen), serial)
		}
	}
}

func keysAreUnique(t *testing.T, s *Store) {
	a := someAccount("a")
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error { return Accounts.Insert(ctx, tx, &a) })
	if err := s.Write(t.Context(), func(tx *Tx) error { return Accounts.Insert(t.Context(), tx, &a) }); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	orphan := User{ID: "u", AccountID: "nobody"}
	if err := s.Write(t.Context(), func(tx *Tx) error { return Users.Insert(t.Context(), tx, &orphan) }); err == nil {
		t.Fatal("a user of no account was kept")
	}
}

func oneInstallation(t *testing.T, s *Store) {
	var all sync.WaitGroup
	var won atomic.Int64
	for i := range 20 {
		all.Go(func() {
			err := s.Write(t.Context(), func(tx *Tx) error {
				ok, err := ClaimInstallation(t.Context(), tx, fmt.Sprint(i), at)
				if ok {
					won.Add(1)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	if all.Wait(); won.Load() != 1 {
		t.Fatal(won.Load())
	}
}

func conditionalUse(t *testing.T, s *Store) {
	a := someAccount("a")
	for name, k := range map[string]SetupKey{
		"open": {UsageLimit: 0}, "limit": {UsageLimit: 2}, "revoked": {Revoked: true}, "expired": {ExpiresAt: at}, "later": {ExpiresAt: at.Add(time.Second)},
	} {
		k.ID, k.AccountID, k.SHA256 = name, "a", []byte(name)
		mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
			if _, err := Accounts.get(ctx, tx, "WHERE id = ?", "a"); errors.Is(err, ErrNoRow) {
				if err := Accounts.Insert(ctx, tx, &a); err != nil {
					return err
				}
			}
			return SetupKeys.Insert(ctx, tx, &k)
		})
	}
	got := map[string]int{}
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		for _, id := range []string{"open", "limit", "revoked", "expired", "later"} {
			for range 3 {
				ok, err := UseSetupKey(ctx, tx, id, at)
				if err != nil {
					return err
				}
				if ok {
					got[id]++
				}
			}
		}
		return nil
	})
	if diff := cmp.Diff(map[string]int{"open": 3, "limit": 2, "later": 3}, got); diff != "" {
		t.Fatal(diff)
	}
}

func references(t *testing.T, s *Store) {
	a := someAccount("a")
	ref := Ref{FromKind: KindPolicy, FromID: "p", Field: "rules.sources", ToKind: KindGroup, ToID: "g"}
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		return errors.Join(Accounts.Insert(ctx, tx, &a), SetRefs(ctx, tx, "a", KindPolicy, "p", []Ref{ref, ref}))
	})
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		same(t, []Ref{ref})(RefsTo(ctx, tx, "a", KindGroup, "g"))
		same(t, []Ref(nil))(RefsTo(ctx, tx, "b", KindGroup, "g"))
		return SetRefs(ctx, tx, "a", KindPolicy, "p", nil)
	})
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		same(t, []Ref(nil))(RefsTo(ctx, tx, "a", KindGroup, "g"))
		return nil
	})
}

func TestPlaceholders(t *testing.T) {
	if got := (postgres{}).placeholders("a = ? AND b IN " + marks(2)); got != "a = $1 AND b IN ($2, $3)" {
		t.Fatal(got)
	}
}

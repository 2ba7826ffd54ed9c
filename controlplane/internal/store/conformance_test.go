package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// readIsOneMoment writes between two queries of one reading transaction.
func readIsOneMoment(t *testing.T, s *Store) {
	a := someAccount("a")
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error { return Accounts.Insert(ctx, tx, &a) })
	err := s.Read(t.Context(), func(tx *Tx) error {
		same(t, []Account{a})(AllAccounts(t.Context(), tx))
		mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
			_, err := NextSerial(ctx, tx, "a")
			return err
		})
		same(t, []Account{a})(AllAccounts(t.Context(), tx))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refusalPassedOver goes on after the database refused a row. Whether the rest is kept differs between engines; what
// was written before must never be lost silently, and the neighbours not at all.
func refusalPassedOver(t *testing.T, s *Store) {
	a, b, c := someAccount("a"), someAccount("b"), someAccount("c")
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error { return Accounts.Insert(ctx, tx, &a) })
	err := s.Write(t.Context(), func(tx *Tx) error {
		first := Accounts.Insert(t.Context(), tx, &b)
		if again := Accounts.Insert(t.Context(), tx, &a); !errors.Is(again, ErrExists) {
			t.Error(again)
		}
		return first
	})
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error { return Accounts.Insert(ctx, tx, &c) })
	want := []Account{a, b, c}
	if err != nil {
		want = []Account{a, c}
	}
	err = s.Read(t.Context(), func(tx *Tx) error {
		same(t, want)(AllAccounts(t.Context(), tx))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func answers(t *testing.T, s *Store) {
	open := StoredAnswer{Caller: "c", Key: "open", RequestHash: []byte{1}, Status: 200, Answer: []byte("x"), ExpiresAt: at.Add(time.Hour)}
	secret := StoredAnswer{Caller: "c", Key: "secret", RequestHash: []byte{2}, Status: 200, Sealed: true, Answer: []byte("y"), ExpiresAt: at.Add(time.Minute)}
	old := StoredAnswer{Caller: "c", Key: "old", RequestHash: []byte{3}, Answer: []byte{}, ExpiresAt: at.Add(-time.Minute)}
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		return errors.Join(Answers.Insert(ctx, tx, &open), Answers.Insert(ctx, tx, &secret), Answers.Insert(ctx, tx, &old),
			TrimAnswers(ctx, tx, at, at.Add(2*time.Minute)))
	})
	secret.Status, secret.Sealed, secret.Answer = 0, false, []byte{}
	err := s.Read(t.Context(), func(tx *Tx) error {
		same(t, open)(FindAnswer(t.Context(), tx, "c", "open", at))
		same(t, secret)(FindAnswer(t.Context(), tx, "c", "secret", at))
		_, err := FindAnswer(t.Context(), tx, "c", "old", at.Add(-time.Hour))
		if !errors.Is(err, ErrNoRow) {
			t.Error("an expired answer is left:", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func auditRows(t *testing.T, s *Store) {
	a := someAccount("a")
	var events []AuditEntry
	for n := range int64(3) {
		events = append(events, AuditEntry{AccountID: "a", N: n + 1, CreatedAt: at, Activity: "group.create", Meta: "{}", Before: "{}", Hash: []byte{byte(n)}})
	}
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		err := Accounts.Insert(ctx, tx, &a)
		n, hash, errHead := AuditHead(ctx, tx, "a")
		if n != 0 || hash != nil || errHead != nil {
			t.Error("the audit of a new account begins with", n, hash, errHead)
		}
		for i := range events {
			err = errors.Join(err, AddAuditEvent(ctx, tx, &events[i]))
		}
		return err
	})
	err := s.Read(t.Context(), func(tx *Tx) error {
		n, hash, err := AuditHead(t.Context(), tx, "a")
		if n != 3 || len(hash) != 1 || hash[0] != 2 {
			t.Error("the newest event is", n, hash)
		}
		same(t, []AuditEntry{events[1], events[0]})(AuditBefore(t.Context(), tx, "a", 3, 5, AuditFilter{}))
		same(t, []AuditEntry(nil))(AuditBefore(t.Context(), tx, "a", 3, 5, AuditFilter{Activity: "none"}))
		same(t, []AuditEntry(nil))(AuditBefore(t.Context(), tx, "a", 3, 5, AuditFilter{InitiatorID: "none", TargetID: "none", Since: at, Until: at}))
		same(t, events[1])(FindAuditEvent(t.Context(), tx, "a", 2))
		same(t, events[1:2])(AuditFrom(t.Context(), tx, "a", 2, 1))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func sealed(t *testing.T, s *Store) {
	if canary, keys, err := s.SealedKeys(t.Context()); err != nil || canary.Sealed != nil || keys != nil {
		t.Fatal(canary, keys, err)
	}
	canary, key := Canary{MasterKeyID: "m", Sealed: []byte{1}}, DataKey{ID: "k", MasterKeyID: "m", Wrapped: []byte{2}, CreatedAt: at}
	if err := s.InitSealedKeys(t.Context(), canary, key); err != nil {
		t.Fatal(err)
	}
	if err := s.InitSealedKeys(t.Context(), canary, key); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	got, keys, err := s.SealedKeys(t.Context())
	same(t, canary)(got, err)
	same(t, []DataKey{key})(keys, err)
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		return errors.Join(AddSecret(ctx, tx, "s", []byte("one")), AddSecret(ctx, tx, "s", []byte("two")))
	})
	err = s.Read(t.Context(), func(tx *Tx) error {
		same(t, []byte("one"))(FindSecret(t.Context(), tx, "s"))
		same(t, map[string][]byte{"s": []byte("one")})(Secrets(t.Context(), tx))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func ordinals(t *testing.T, s *Store) {
	a := someAccount("a")
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		return errors.Join(Accounts.Insert(ctx, tx, &a),
			FreeOrdinal(ctx, tx, "a", 5, at), FreeOrdinal(ctx, tx, "a", 3, at.Add(time.Hour)))
	})
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		if n, ok, err := ReuseOrdinal(ctx, tx, "a", at); n != 5 || !ok || err != nil {
			t.Error("the rested ordinal is", n, ok, err)
		}
		_, ok, err := ReuseOrdinal(ctx, tx, "a", at)
		if ok {
			t.Error("an ordinal is given before its time")
		}
		return err
	})
}

// lookups asks every remaining question once.
func lookups(t *testing.T, s *Store) {
	a := someAccount("a")
	p := Peer{ID: "p", AccountID: "a", Ordinal: 1, DNSLabel: "one", IP: "100.64.0.1", IPv6: "fd00::1", MachineKey: []byte{1}, WireGuardKey: []byte{2}, CreatedAt: at}
	key := "g"
	g := Object{ID: "g", AccountID: "a", Kind: KindGroup, Name: "web", NameKey: &key, CreatedAt: at, Body: "{}"}
	record := Object{ID: "d", AccountID: "a", Kind: KindDNSRecord, Name: "web", CreatedAt: at, Body: "{}"}
	m := Membership{GroupID: "g", PeerID: "p", AccountID: "a", Position: 1, Source: "api"}
	u := User{ID: "u", AccountID: "a", CreatedAt: at}
	tok := Token{ID: "t", AccountID: "a", UserID: "u", SHA256: []byte{1}, CreatedAt: at, ExpiresAt: at}
	k := SetupKey{ID: "k", AccountID: "a", SHA256: []byte{1}, CreatedAt: at, UpdatedAt: at}
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		return errors.Join(Accounts.Insert(ctx, tx, &a), Peers.Insert(ctx, tx, &p), AddLabels(ctx, tx, "a", "p", []string{"extra"}), Objects.Insert(ctx, tx, &g), Objects.Insert(ctx, tx, &record), Memberships.Insert(ctx, tx, &m),
			Users.Insert(ctx, tx, &u), Tokens.Insert(ctx, tx, &tok), SetupKeys.Insert(ctx, tx, &k), TouchToken(ctx, tx, "t", at))
	})
	tok.LastUsed = at
	err := s.Read(t.Context(), func(tx *Tx) error {
		ctx := t.Context()
		same(t, []Object{g})(ObjectsByKey(ctx, tx, "a", KindGroup, []string{"g", "nothing"}))
		same(t, []Object{record})(RecordsNamed(ctx, tx, "a", "web"))
		same(t, map[string]bool{"p": true})(KnownPeers(ctx, tx, "a", []string{"p", "q"}))
		same(t, []Peer{p})(PeersByKey(ctx, tx, []byte{1}, []byte{9}))
		same(t, "p")(PeerWithAddress(ctx, tx, "a", p.IP))
		same(t, "p")(PeerWithAddress(ctx, tx, "a", p.IPv6))
		same(t, "p")(PeerWithLabel(ctx, tx, "a", "one"))
		same(t, "p")(PeerWithLabel(ctx, tx, "a", "extra"))
		same(t, "")(PeerWithLabel(ctx, tx, "b", "extra"))
		same(t, "")(PeerWithLabel(ctx, tx, "a", "two"))
		same(t, []Membership{m})(GroupMembers(ctx, tx, "g"))
		same(t, []Membership{m})(PeerMemberships(ctx, tx, "p"))
		same(t, m)(FindMembership(ctx, tx, "g", "p"))
		same(t, tok)(FindToken(ctx, tx, "a", "u", "t"))
		same(t, k)(FindSetupKeyBySecret(ctx, tx, []byte{1}))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Write(t.Context(), func(tx *Tx) error { return AddLabels(t.Context(), tx, "a", "p", []string{"extra"}) })
	if !errors.Is(err, ErrExists) {
		t.Error("a label has two holders:", err)
	}
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		if err := Peers.Update(ctx, tx, &Peer{ID: "q", MachineKey: []byte{5}, WireGuardKey: []byte{6}}); !errors.Is(err, ErrNoRow) {
			t.Error("an unknown peer was changed:", err)
		}
		return errors.Join(Memberships.Delete(ctx, tx, "g", "p"), Peers.Delete(ctx, tx, "p"), Peers.Delete(ctx, tx, "p"))
	})
}

// whoDeclares notes a program once, follows a change of it, and forgets what is
// gone, other accounts and long lists included.
func whoDeclares(t *testing.T, s *Store) {
	a, b := someAccount("a"), someAccount("b")
	want := map[string][]Managed{"b": {{ID: "g0", AccountID: "b", By: "terraform"}}}
	var gone []string
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		err := errors.Join(Accounts.Insert(ctx, tx, &a), Accounts.Insert(ctx, tx, &b))
		manage := func(id, account, by string, fresh bool) {
			got, more := Manage(ctx, tx, Managed{ID: id, AccountID: account, By: by})
			if err = errors.Join(err, more); got != fresh {
				t.Errorf("%s by %s is news: %t", id, by, got)
			}
		}
		manage("g0", "b", "terraform", true)
		manage("kept", "a", "pulumi", true)
		manage("kept", "a", "pulumi", false)
		manage("kept", "a", "terraform", true)
		for i := range 450 { // more than one statement takes
			gone = append(gone, fmt.Sprint("g", i+1))
			manage(gone[i], "a", "terraform", true)
		}
		return err
	})
	listed := func() map[string][]Managed {
		all := map[string][]Managed{}
		err := s.Read(t.Context(), func(tx *Tx) (err error) {
			for _, account := range []string{"a", "b"} {
				rows, more := AccountManaged(t.Context(), tx, account)
				all[account], err = rows, errors.Join(err, more)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := listed(); len(got["a"]) != 1+len(gone) {
		t.Errorf("%d objects are declared", len(got["a"]))
	}
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		return errors.Join(Unmanage(ctx, tx, append(gone, "never was")), Unmanage(ctx, tx, nil))
	})
	want["a"] = []Managed{{ID: "kept", AccountID: "a", By: "terraform"}}
	if diff := cmp.Diff(want, listed()); diff != "" {
		t.Error(diff)
	}
}

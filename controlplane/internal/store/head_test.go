package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// advance does to account a what every write does to its account.
func advance(ctx context.Context, tx *Tx) error {
	row, err := NextSerial(ctx, tx, "a")
	if err != nil {
		return err
	}
	row.NextOrdinal++
	KeepAccount(tx, row)
	n, _, err := AuditHead(ctx, tx, "a")
	if err != nil {
		return err
	}
	return AddAuditEvent(ctx, tx, &AuditEntry{AccountID: "a", N: n + 1, CreatedAt: at, Meta: fmt.Sprint(row.Serial), Hash: []byte{byte(n + 1)}})
}

// advanced checks what n calls of advance leave behind.
func advanced(t *testing.T, s *Store, n int) {
	t.Helper()
	err := s.Read(t.Context(), func(tx *Tx) error {
		rows, err := AllAccounts(t.Context(), tx)
		if len(rows) != 1 || rows[0].Serial != int64(n) || rows[0].NextOrdinal != uint32(n) {
			t.Errorf("after %d writes the account is %+v", n, rows)
		}
		events, errAudit := AuditFrom(t.Context(), tx, "a", 0, 2*n)
		if len(events) != n {
			t.Fatalf("%d events of %d writes", len(events), n)
		}
		for i := range n {
			if events[i].Meta != fmt.Sprint(i+1) || events[i].N != int64(i+1) || events[i].Hash[0] != byte(i+1) {
				t.Fatalf("place %d holds serial %s and event %d", i+1, events[i].Meta, events[i].N)
			}
		}
		return errors.Join(err, errAudit)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// historyHasNoGaps makes many concurrent writes, half of which fail at their end.
func historyHasNoGaps(t *testing.T, s *Store) {
	a := someAccount("a")
	a.NextOrdinal = 0
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error { return Accounts.Insert(ctx, tx, &a) })
	refuse := errors.New("refused")
	var all sync.WaitGroup
	var kept atomic.Int64
	for i := range 200 {
		all.Go(func() {
			err := s.Write(t.Context(), func(tx *Tx) error {
				if err := advance(t.Context(), tx); err != nil {
					return err
				}
				if i%2 == 0 {
					return refuse
				}
				return nil
			})
			switch {
			case err == nil:
				kept.Add(1)
			case !errors.Is(err, refuse):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if kept.Load() != 100 {
		t.Errorf("%d writes kept", kept.Load())
	}
	advanced(t, s, 100)
}

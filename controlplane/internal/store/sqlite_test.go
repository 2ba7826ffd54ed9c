package store

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "control.db")
	refuse := func(t *testing.T, path string, want error, text string) {
		t.Helper()
		s, err := Open(t.Context(), config(path))
		if err == nil {
			t.Fatal("opened", s.Close())
		}
		if want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), path) {
			t.Fatal(err)
		}
	}
	t.Run("no folder", func(t *testing.T) {
		refuse(t, filepath.Join(dir, "none", "control.db"), nil, "the folder cannot be used")
	})
	t.Run("no database", func(t *testing.T) {
		junk := filepath.Join(dir, "junk.db")
		if err := os.WriteFile(junk, []byte(strings.Repeat("this is not a database ", 400)), 0o600); err != nil {
			t.Fatal(err)
		}
		refuse(t, junk, ErrCorrupt, "restore a backup")
	})
	t.Run("unwritable folder", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root may write everywhere")
		}
		closed := filepath.Join(dir, "closed")
		if err := os.Mkdir(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		refuse(t, filepath.Join(closed, "control.db"), ErrUnwritable, "check owner and mode")
	})
	first := open(t, path)
	t.Run("in use", func(t *testing.T) { refuse(t, path, ErrBusy, "locked by another process") })
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Write(t.Context(), func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	t.Run("newer schema", func(t *testing.T) {
		db, err := sql.Open("sqlite3", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		refuse(t, path, nil, "schema version 99 and this program knows versions up to ")
	})
}

// TestCorruptPage damages a page in the middle of a sound database.
func TestCorruptPage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.db")
	s := open(t, path)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < 3*4096; i++ {
		raw[i] ^= 0xa5
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), config(path)); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

// TestLockedByOthers holds the write lock as a foreign program would.
func TestLockedByOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.db")
	s := open(t, path)
	db, err := sql.Open("sqlite3", "file:"+path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // the test is over
	other, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := someAccount("a")
	insert := func(tx *Tx) error { return Accounts.Insert(t.Context(), tx, &a) }
	if err := s.Write(t.Context(), insert); !errors.Is(err, ErrBusy) || !Unavailable(err) {
		t.Fatal(err)
	}
	if err := other.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), insert); err != nil {
		t.Fatal("the store did not recover:", err)
	}
}

// TestFullDisk bounds the number of pages, which SQLite answers like a full disk.
func TestFullDisk(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "control.db"))
	a := someAccount("a")
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		if err := Accounts.Insert(ctx, tx, &a); err != nil {
			return err
		}
		var pages int
		if err := tx.one(ctx, "PRAGMA page_count", nil, &pages); err != nil {
			return err
		}
		return tx.scan(ctx, "PRAGMA max_page_count = 100", nil, func(*sql.Rows) error { return nil })
	})
	big := func(n int64) func(tx *Tx) error {
		return func(tx *Tx) error {
			if _, err := NextSerial(t.Context(), tx, "a"); err != nil {
				return err
			}
			return AddAuditEvent(t.Context(), tx, &AuditEntry{AccountID: "a", N: n, CreatedAt: at, Meta: strings.Repeat("x", 1<<20), Hash: []byte{1}})
		}
	}
	err := s.Write(t.Context(), big(1))
	if !errors.Is(err, ErrFull) || !Unavailable(err) {
		t.Fatal(err)
	}
	err = s.Read(t.Context(), func(tx *Tx) error {
		rows, err := AllAccounts(t.Context(), tx)
		n, _, err2 := AuditHead(t.Context(), tx, "a")
		if len(rows) != 1 || rows[0].Serial != 0 || n != 0 {
			t.Errorf("half of a write is left: %+v, %d events", rows, n)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, func(ctx context.Context, tx *Tx) error {
		return tx.scan(ctx, "PRAGMA max_page_count = 100000", nil, func(*sql.Rows) error { return nil })
	})
	if err := s.Write(t.Context(), big(1)); err != nil {
		t.Fatal("the store did not recover:", err)
	}
}

// TestBackupIsADatabase opens the copy that is made before a migration.
func TestBackupIsADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.db")
	s := open(t, path)
	copied := path + ".copy"
	if _, err := s.dialect.backup(t.Context(), s.writerCopy(t, path), copied); err != nil {
		t.Fatal(err)
	}
	other := open(t, copied)
	if _, _, err := other.SealedKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// writerCopy is a second connection: the first belongs to the writer.
func (s *Store) writerCopy(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

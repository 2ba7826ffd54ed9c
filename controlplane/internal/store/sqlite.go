package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mattn/go-sqlite3"
	"github.com/pressly/goose/v3"
)

// pageCacheKiB bounds the pages that a connection keeps: those of some ten thousand objects, where SQLite's own 2 MiB
// hold two thousand, beyond which each write reads pages back.
const pageCacheKiB = 16 << 10

// sqlite is the embedded engine: one file, of which one process is the only user.
type sqlite struct{}

func (sqlite) begin() string                    { return "BEGIN IMMEDIATE" }
func (sqlite) reading() *sql.TxOptions          { return &sql.TxOptions{ReadOnly: true} }
func (sqlite) placeholders(query string) string { return query }
func (sqlite) goose() goose.Dialect             { return goose.DialectSQLite3 }

// receipt is never needed: a file does not go away in the middle of COMMIT without taking this process along.
func (sqlite) receipt(context.Context, *Tx) (string, error) { return "", nil }

func (sqlite) kept(context.Context, *sql.DB, string) (bool, error) { return false, nil }

// exclusive has nothing to add: the lock on the file keeps other processes out for as long as the store is open.
func (sqlite) exclusive(context.Context, *sql.DB) (release func() error, err error) {
	return func() error { return nil }, nil
}

func (sqlite) noTransaction(err error) bool {
	var fault sqlite3.Error
	return errors.As(err, &fault) && strings.Contains(fault.Error(), "no transaction is active")
}

func (sqlite) backup(ctx context.Context, db *sql.DB, path string) (copied bool, err error) {
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", path)
	return err == nil, classify(err)
}

// classify joins a fault of the package to an error of SQLite; ok is false for errors of others.
func (sqlite) classify(err error) (fault error, ok bool) {
	var code sqlite3.Error
	if !errors.As(err, &code) {
		return nil, false
	}
	switch code.Code {
	case sqlite3.ErrFull:
		return ErrFull, true
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		return ErrBusy, true
	case sqlite3.ErrReadonly, sqlite3.ErrCantOpen, sqlite3.ErrPerm:
		return ErrUnwritable, true
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return ErrCorrupt, true
	case sqlite3.ErrIoErr, sqlite3.ErrNomem:
		return ErrDisk, true
	case sqlite3.ErrConstraint:
		if code.ExtendedCode == sqlite3.ErrConstraintUnique || code.ExtendedCode == sqlite3.ErrConstraintPrimaryKey {
			return ErrExists, true
		}
	}
	return nil, true
}

// openSQLite opens the file twice: one writing connection, several readers.
func openSQLite(ctx context.Context, cfg Config) (writer, readers *sql.DB, err error) {
	if writer, err = sql.Open("sqlite3", sqliteName(cfg, "immediate", false)); err != nil {
		return nil, nil, err
	}
	writer.SetMaxOpenConns(1)
	if err := writable(ctx, writer, cfg.Path); err != nil {
		return writer, nil, err
	}
	// What a savepoint changes is copied first; in a file if need be, and nobody reads that after a crash.
	if _, err := writer.ExecContext(ctx, "PRAGMA temp_store = MEMORY"); err != nil {
		return writer, nil, fmt.Errorf("open database %s: %w", cfg.Path, classify(err))
	}
	if readers, err = sql.Open("sqlite3", sqliteName(cfg, "deferred", true)); err != nil {
		return writer, nil, err
	}
	readers.SetMaxOpenConns(cfg.Readers)
	readers.SetMaxIdleConns(cfg.Readers)
	return writer, readers, nil
}

func sqliteName(cfg Config, lock string, readOnly bool) string {
	options := url.Values{
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"on"},
		"_busy_timeout": {strconv.FormatInt(cfg.BusyTimeout.Milliseconds(), 10)},
		"_txlock":       {lock},
		"_cache_size":   {strconv.Itoa(-pageCacheKiB)},
	}
	if readOnly {
		options.Set("_query_only", "true")
	}
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: cfg.Path}).EscapedPath(), RawQuery: options.Encode()}
	return name.String()
}

// writable proves that the file is a sound database which can be written now.
func writable(ctx context.Context, db *sql.DB, path string) error {
	conn, err := db.Conn(ctx)
	if err == nil {
		defer conn.Close() //nolint:errcheck // it only goes back to the pool
		if _, err = conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err == nil {
			_, err = conn.ExecContext(ctx, "ROLLBACK")
		}
	}
	if err == nil {
		var verdict string
		if err = conn.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err == nil && verdict != "ok" {
			err = fmt.Errorf("%w: %s", ErrCorrupt, verdict)
		}
	}
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, classify(err))
	}
	return nil
}

// checkFolder says plainly what is wrong with the folder of the database.
func checkFolder(path string) error {
	folder := filepath.Dir(path)
	found, err := os.Stat(folder)
	switch {
	case err != nil:
		return fmt.Errorf("open database %s: the folder cannot be used: %w", path, err)
	case !found.IsDir():
		return fmt.Errorf("open database %s: %s is not a folder", path, folder)
	}
	return nil
}

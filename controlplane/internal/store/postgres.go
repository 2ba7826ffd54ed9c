package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// postgres is the engine for several instances: PostgreSQL 13 or newer.
type postgres struct{}

func (postgres) begin() string { return "BEGIN ISOLATION LEVEL READ COMMITTED" }

func (postgres) reading() *sql.TxOptions {
	return &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead}
}

// noTransaction is never needed: ROLLBACK outside a transaction is only a warning.
func (postgres) noTransaction(error) bool { return false }

func (postgres) goose() goose.Dialect { return goose.DialectPostgres }

// backup leaves copies to the tools of PostgreSQL: each migration is one
// transaction, so a failed one changes nothing.
func (postgres) backup(context.Context, *sql.DB, string) (copied bool, err error) { return false, nil }

func (postgres) receipt(ctx context.Context, tx *Tx) (receipt string, err error) {
	err = tx.one(ctx, "SELECT pg_current_xact_id()::text", nil, &receipt)
	return receipt, err
}

// kept asks until the server has noticed that the connection is gone, or ctx ends.
func (postgres) kept(ctx context.Context, db *sql.DB, receipt string) (bool, error) {
	for {
		var status sql.NullString // null when the server remembers no such old transaction
		if err := db.QueryRowContext(ctx, "SELECT pg_xact_status($1::text::xid8)", receipt).Scan(&status); err != nil {
			return false, classify(err)
		}
		if status.String != "in progress" {
			return status.String == "committed", nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// migrationLock is the key of the advisory lock under which the schema is migrated: "wattle" in ASCII.
const migrationLock int64 = 0x776174746c65

// exclusive holds a session lock, which the server gives back when the connection ends, however it ends.
func (postgres) exclusive(ctx context.Context, db *sql.DB) (release func() error, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, classify(err)
	}
	// Another instance may migrate for longer than a row is ever held; only ctx ends this wait.
	_, err = conn.ExecContext(ctx, "SET lock_timeout = 0")
	if err == nil {
		_, err = conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", migrationLock)
	}
	if err != nil {
		return nil, errors.Join(classify(err), conn.Close())
	}
	return func() error {
		after := context.WithoutCancel(ctx)
		_, err := conn.ExecContext(after, "SELECT pg_advisory_unlock($1)", migrationLock)
		_, err2 := conn.ExecContext(after, "RESET lock_timeout")
		return errors.Join(classify(err), classify(err2), conn.Close())
	}, nil
}

// placeholders writes ? as $1, $2, and so on. No query of this package has a
// question mark inside a text.
func (postgres) placeholders(query string) string {
	var b strings.Builder
	n := 0
	for _, c := range query {
		if c != '?' {
			b.WriteRune(c)
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}

// classify goes by the codes of appendix A of the manual; their first two characters are the class.
func (postgres) classify(err error) (fault error, ok bool) {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return connectionFault(err)
	}
	switch said.Code {
	case "23505": // unique_violation
		return ErrExists, true
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return ErrOverlap, true
	case "55P03": // lock_not_available
		return ErrBusy, true
	case "53100": // disk_full
		return ErrFull, true
	case "25006", "42501": // read_only_sql_transaction, insufficient_privilege
		return ErrUnwritable, true
	case "25P02": // in_failed_sql_transaction
		return errAborted, true
	case "53200", "58030": // out_of_memory, io_error
		return ErrDisk, true
	case "53300", "57P01", "57P02", "57P03", "57P05": // too_many_connections, shutdown, crash, starting up, idle
		return ErrUnreachable, true
	}
	switch said.Code[:min(2, len(said.Code))] {
	case "08": // connection_exception
		return ErrUnreachable, true
	case "XX": // internal_error, data_corrupted, index_corrupted
		return ErrCorrupt, true
	}
	return nil, true
}

// connectionFault recognises what a lost connection looks like from this side.
func connectionFault(err error) (fault error, ok bool) {
	var refused *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &refused) || errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return ErrUnreachable, true
	}
	return nil, false
}

// openPostgres opens one pool for the writer and the migrations, and one for readers.
func openPostgres(ctx context.Context, cfg Config) (writer, readers *sql.DB, err error) {
	settings, err := pgx.ParseConfig(cfg.Postgres)
	if err != nil {
		return nil, nil, fmt.Errorf("read the address of the database: %w", err) // pgx leaves the password out
	}
	// A wait for a row that another instance holds ends like a wait for a file that another process holds.
	settings.RuntimeParams["lock_timeout"] = strconv.FormatInt(cfg.BusyTimeout.Milliseconds(), 10)
	if settings.RuntimeParams["application_name"] == "" {
		settings.RuntimeParams["application_name"] = "wattle-server"
	}
	if settings.ConnectTimeout == 0 {
		settings.ConnectTimeout = connectTimeout
	}
	writer = stdlib.OpenDB(*settings)
	if err := writer.PingContext(ctx); err != nil {
		return writer, nil, fmt.Errorf("open database %s: %w", cfg.name(), classify(err))
	}
	readers = stdlib.OpenDB(*settings)
	readers.SetMaxOpenConns(cfg.Readers)
	readers.SetMaxIdleConns(cfg.Readers)
	return writer, readers, nil
}

// postgresName says which database an address means, without its password.
func postgresName(address string) string {
	settings, err := pgx.ParseConfig(address)
	if err != nil {
		return "PostgreSQL"
	}
	return fmt.Sprintf("PostgreSQL %s/%s", settings.Host, settings.Database)
}

package store

import (
	"context"
	"database/sql"
	"strings"
)

// A Tx is one transaction. It is valid inside the function that received it.
type Tx struct {
	dialect  dialect
	on       executor
	prepared map[string]*sql.Stmt // nil for readers
	heads    *heads               // nil for readers
	after    []func()
}

// An executor is a connection or a transaction of database/sql.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// After has fn run once the transaction is on the disk, before Write returns.
// All After functions of a store run one at a time, in the order of the
// commits. It is for writing transactions only.
func (tx *Tx) After(fn func()) { tx.after = append(tx.after, fn) }

// exec runs a statement and returns how many rows it touched.
func (tx *Tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	stmt, err := tx.statement(ctx, query) //nolint:sqlclosecheck // forget closes it
	if err != nil {
		return 0, err
	}
	var result sql.Result
	if stmt != nil {
		result, err = stmt.ExecContext(ctx, args...)
	} else {
		result, err = tx.on.ExecContext(ctx, tx.dialect.placeholders(query), args...)
	}
	if err != nil {
		return 0, classify(err)
	}
	rows, err := result.RowsAffected()
	return rows, classify(err)
}

// scan runs a query and calls row for each line of its answer.
func (tx *Tx) scan(ctx context.Context, query string, args []any, row func(*sql.Rows) error) error {
	stmt, err := tx.statement(ctx, query) //nolint:sqlclosecheck // forget closes it
	if err != nil {
		return err
	}
	var rows *sql.Rows
	if stmt != nil {
		rows, err = stmt.QueryContext(ctx, args...)
	} else {
		rows, err = tx.on.QueryContext(ctx, tx.dialect.placeholders(query), args...)
	}
	if err != nil {
		return classify(err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells what matters
	for rows.Next() {
		if err := row(rows); err != nil {
			return classify(err)
		}
	}
	return classify(rows.Err())
}

// one runs a query that answers at most one line; none is ErrNoRow.
func (tx *Tx) one(ctx context.Context, query string, args []any, into ...any) error {
	found := false
	err := tx.scan(ctx, query, args, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(into...)
	})
	if err == nil && !found {
		return ErrNoRow
	}
	return err
}

// statement prepares a query once for the writer's connection.
func (tx *Tx) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if tx.prepared == nil {
		return nil, nil
	}
	stmt, ok := tx.prepared[query]
	if !ok {
		var err error
		if stmt, err = tx.on.PrepareContext(ctx, tx.dialect.placeholders(query)); err != nil {
			return nil, classify(err)
		}
		// Lists of ids make statements of many lengths; only so many are kept.
		if len(tx.prepared) > 256 {
			tx.forget()
		}
		tx.prepared[query] = stmt
	}
	return stmt, nil
}

// forget closes the prepared statements.
func (tx *Tx) forget() {
	for query, stmt := range tx.prepared {
		_ = stmt.Close() // a statement of a broken connection has nothing left to close
		delete(tx.prepared, query)
	}
}

// plain runs a statement that controls the transaction.
func (tx *Tx) plain(ctx context.Context, statement string) error {
	_, err := tx.on.ExecContext(ctx, statement)
	return classify(err)
}

// rollback ends the transaction. The engine may have ended it by itself after a
// fault, which is as good.
func (tx *Tx) rollback(ctx context.Context) error {
	if err := tx.plain(ctx, "ROLLBACK"); err != nil && !tx.dialect.noTransaction(err) {
		return err
	}
	return nil
}

// marks returns n placeholders in parentheses.
func marks(n int) string { return "(" + strings.TrimSuffix(strings.Repeat("?, ", n), ", ") + ")" }

func anys[T any](values []T) []any {
	list := make([]any, len(values))
	for i, v := range values {
		list[i] = v
	}
	return list
}

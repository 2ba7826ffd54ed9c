package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A table writes and reads the rows of one table as values of one type. Its
// texts are put together once, from names in this package only.
type table[T any] struct {
	keys    int            // how many of the first columns are the primary key
	fields  func(*T) []any // pointers in the order of the columns
	columns string
	sql     struct{ insert, update, remove, selects string }
}

// newTable names the columns; the first keys of them are the primary key.
func newTable[T any](name string, keys int, columns string, fields func(*T) []any) *table[T] {
	names := strings.Fields(columns)
	t := &table[T]{keys: keys, fields: fields, columns: strings.Join(names, ", ")}
	where := " WHERE " + strings.Join(names[:keys], " = ? AND ") + " = ?"
	t.sql.insert = "INSERT INTO " + name + " (" + t.columns + ") VALUES " + marks(len(names))
	t.sql.update = "UPDATE " + name + " SET " + strings.Join(names[keys:], " = ?, ") + " = ?" + where
	t.sql.remove = "DELETE FROM " + name + where
	t.sql.selects = "SELECT " + t.columns + " FROM " + name + " "
	return t
}

// Insert adds a row; ErrExists when a unique value is taken.
func (t *table[T]) Insert(ctx context.Context, tx *Tx, row *T) error {
	_, err := tx.exec(ctx, t.sql.insert, t.fields(row)...)
	return err
}

// Update writes all columns of the row with the same key; ErrNoRow when there is none.
func (t *table[T]) Update(ctx context.Context, tx *Tx, row *T) error {
	fields := t.fields(row)
	n, err := tx.exec(ctx, t.sql.update, append(append([]any{}, fields[t.keys:]...), fields[:t.keys]...)...)
	if err == nil && n == 0 {
		return ErrNoRow
	}
	return err
}

// Delete removes the row with the key; none is no error.
func (t *table[T]) Delete(ctx context.Context, tx *Tx, key ...any) error {
	_, err := tx.exec(ctx, t.sql.remove, key...)
	return err
}

// get returns the one row that fits; ErrNoRow when none does.
func (t *table[T]) get(ctx context.Context, tx *Tx, where string, args ...any) (row T, err error) {
	err = tx.one(ctx, t.sql.selects+where, args, t.fields(&row)...)
	return row, err
}

// list returns the rows that fit.
func (t *table[T]) list(ctx context.Context, tx *Tx, where string, args ...any) (rows []T, err error) {
	err = tx.scan(ctx, t.sql.selects+where, args, func(r *sql.Rows) error {
		var row T
		if err := r.Scan(t.fields(&row)...); err != nil {
			return err
		}
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

// moment keeps a time as milliseconds since 1970; the zero time is 0.
type moment struct{ at *time.Time }

func stamp(at *time.Time) moment { return moment{at} }

func (m moment) Value() (driver.Value, error) { return millis(*m.at), nil }

func (m moment) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("time column holds %T", v)
	}
	*m.at = time.Time{}
	if n != 0 {
		*m.at = time.UnixMilli(n).UTC()
	}
	return nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// asJSON keeps a value as JSON text.
type asJSON struct{ value any }

func inJSON(value any) asJSON { return asJSON{value} }

func (j asJSON) Value() (driver.Value, error) {
	text, err := json.Marshal(j.value)
	return string(text), err
}

func (j asJSON) Scan(v any) error {
	switch text := v.(type) {
	case string:
		return json.Unmarshal([]byte(text), j.value)
	case []byte:
		return json.Unmarshal(text, j.value)
	}
	return fmt.Errorf("JSON column holds %T", v)
}

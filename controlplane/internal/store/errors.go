package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"
)

// The faults that a caller can tell apart.
var (
	// ErrNoRow says that no row has the key.
	ErrNoRow = errors.New("no such row")

	// ErrExists says that a unique value is taken.
	ErrExists = errors.New("a row with the same unique value exists")

	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("the store is closed")

	// ErrFull says that the disk is full.
	ErrFull = errors.New("the disk that holds the database is full; free some space")

	// ErrBusy says that another process holds the database.
	ErrBusy = errors.New("the database is locked by another process; end that process")

	// ErrUnwritable says that the database cannot be written.
	ErrUnwritable = errors.New("the database cannot be written; check owner and mode of the data folder")

	// ErrCorrupt says that the file is damaged or no database.
	ErrCorrupt = errors.New("the database file is damaged or no database; restore a backup")

	// ErrDisk says that reading or writing the disk failed.
	ErrDisk = errors.New("the disk that holds the database reports an error")
)

// Unavailable reports whether an error is the database's own fault and may pass:
// the same call can succeed later.
func Unavailable(err error) bool {
	return fatal(err) || errors.Is(err, ErrClosed) || errors.Is(err, ErrBusy)
}

// fatal reports whether an error undoes the whole transaction.
func fatal(err error) bool {
	for _, fault := range []error{ErrFull, ErrBusy, ErrUnwritable, ErrCorrupt, ErrDisk, sql.ErrConnDone} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

// classify joins one of the faults above to an error of the engine.
func classify(err error) error {
	var fault sqlite3.Error
	switch {
	case err == nil || errors.Is(err, context.Canceled) || fatal(err) || errors.Is(err, ErrExists):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return ErrNoRow
	case !errors.As(err, &fault):
		return err
	}
	switch fault.Code {
	case sqlite3.ErrFull:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case sqlite3.ErrReadonly, sqlite3.ErrCantOpen, sqlite3.ErrPerm:
		return fmt.Errorf("%w: %w", ErrUnwritable, err)
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case sqlite3.ErrIoErr, sqlite3.ErrNomem:
		return fmt.Errorf("%w: %w", ErrDisk, err)
	case sqlite3.ErrConstraint:
		if fault.ExtendedCode == sqlite3.ErrConstraintUnique || fault.ExtendedCode == sqlite3.ErrConstraintPrimaryKey {
			return fmt.Errorf("%w: %w", ErrExists, err)
		}
	}
	return err
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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

	// ErrUnreachable says that the database server does not answer or ended the
	// connection. Whether a write that met it at its very end was kept is asked
	// of the server; only where that fails too, nobody can tell.
	ErrUnreachable = errors.New("the database server cannot be reached; check that it runs and its address is right")

	// ErrOverlap says that another instance changed the same rows at the same moment.
	ErrOverlap = errors.New("another instance changed the same rows at the same moment; try again")

	// errAborted says that a write left the transaction in a state in which
	// nothing of it can be kept.
	errAborted = errors.New("the transaction was aborted")
)

// Unavailable reports whether an error is the database's own fault and may pass:
// the same call can succeed later.
func Unavailable(err error) bool {
	return fatal(err) || errors.Is(err, ErrClosed) || errors.Is(err, ErrBusy)
}

// fatal reports whether an error undoes the whole transaction.
func fatal(err error) bool {
	for _, fault := range []error{ErrFull, ErrBusy, ErrUnwritable, ErrCorrupt, ErrDisk, ErrUnreachable, ErrOverlap, errAborted, sql.ErrConnDone} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

// classify joins one of the faults above to an error of the engine.
func classify(err error) error {
	switch {
	case errors.Is(err, sql.ErrConnDone) && !errors.Is(err, ErrUnreachable):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || fatal(err) || errors.Is(err, ErrExists):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return ErrNoRow
	}
	for _, d := range dialects {
		if fault, ok := d.classify(err); fault != nil {
			return fmt.Errorf("%w: %w", fault, err)
		} else if ok {
			return err
		}
	}
	return err
}

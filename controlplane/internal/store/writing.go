package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// A writing is the writer's end of the database: one connection, which is
// replaced when it was lost, and the statements prepared on it.
type writing struct {
	store *Store
	conn  *sql.Conn // nil after a loss, until the next batch
	tx    *Tx
}

// commit runs the writes of a batch in one transaction, again when another
// instance got in the way or when nothing had happened yet. It returns an error
// when the transaction as a whole failed; then none of them happened, unless the
// error says that the database could not be asked about it.
func (w *writing) commit(batch []*write) (err error) {
	// The transaction outlives each single caller: one that gives up must not
	// take its neighbours along.
	ctx := context.Background()
	for attempt := range attempts {
		if attempt > 0 {
			// The other one must get the row that it waited for, also when it is slow to wake.
			pause := firstPause << attempt
			time.Sleep(pause/2 + rand.N(pause)) //nolint:gosec // spreads attempts; nothing depends on it being unknown
		}
		var begun bool
		begun, err = w.attempt(ctx, batch)
		if err == nil {
			return nil
		}
		w.tx.forget()
		lost := errors.Is(err, ErrUnreachable) || errors.Is(err, sql.ErrConnDone)
		if lost {
			w.disconnect()
		}
		if !errors.Is(err, ErrOverlap) && (begun || !lost) {
			return err
		}
	}
	return err
}

// attempt runs the batch once; begun is false when not even BEGIN got through.
func (w *writing) attempt(ctx context.Context, batch []*write) (begun bool, err error) {
	if err := w.connect(ctx); err != nil {
		return false, err
	}
	tx := w.tx
	if err := tx.plain(ctx, w.store.dialect.begin()); err != nil {
		return false, err
	}
	tx.heads.reset()
	kept := 0
	for _, one := range batch {
		if one.err = one.ctx.Err(); one.err != nil {
			continue
		}
		switch one.err = savepoint(ctx, tx, one); {
		case one.err == nil:
			kept++
		case fatal(one.err):
			return true, errors.Join(one.err, tx.rollback(ctx))
		}
	}
	if kept == 0 {
		return true, tx.rollback(ctx)
	}
	if err := tx.heads.writeBack(ctx, tx); err != nil {
		return true, errors.Join(err, tx.rollback(ctx))
	}
	receipt, err := w.store.dialect.receipt(ctx, tx)
	if err != nil {
		return true, errors.Join(err, tx.rollback(ctx))
	}
	if err := tx.plain(ctx, "COMMIT"); err != nil {
		if errors.Is(err, ErrUnreachable) && receipt != "" {
			return true, w.inquire(ctx, receipt, err)
		}
		return true, errors.Join(err, tx.rollback(ctx))
	}
	return true, nil
}

// inquire finds out what became of a transaction whose connection was lost in
// the middle of COMMIT: nil when it was kept, else the reason of the loss.
func (w *writing) inquire(ctx context.Context, receipt string, reason error) error {
	w.disconnect()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	kept, err := w.store.dialect.kept(ctx, w.store.writer, receipt)
	if err != nil {
		return fmt.Errorf("whether transaction %s was kept is unknown: %w: %w", receipt, err, reason)
	}
	if !kept {
		return reason
	}
	w.store.logger.Warn("connection was lost after the database had committed", "transaction", receipt)
	return nil
}

// savepoint runs one write of a transaction. Its error is that write's own,
// unless it is fatal.
func savepoint(ctx context.Context, tx *Tx, one *write) error {
	if _, err := tx.exec(ctx, "SAVEPOINT one_write"); err != nil {
		return err
	}
	tx.after = nil
	tx.heads.begin()
	err := classify(run(one.fn, tx))
	if errors.Is(err, errAborted) || !fatal(err) {
		if err == nil {
			// A fault that fn passed over shows here at the latest.
			_, err = tx.exec(ctx, "RELEASE SAVEPOINT one_write")
		}
		if err == nil {
			one.after = tx.after
			tx.heads.keep()
			return nil
		}
		return undo(ctx, tx, err)
	}
	return err
}

// undo takes one write back for a reason of its own. That the engine refused
// everything after the reason is no news then.
func undo(ctx context.Context, tx *Tx, reason error) error {
	for _, statement := range []string{"ROLLBACK TO SAVEPOINT one_write", "RELEASE SAVEPOINT one_write"} {
		if err := tx.plain(ctx, statement); err != nil {
			return fmt.Errorf("%w: %w: %w", errAborted, err, reason)
		}
	}
	if errors.Is(reason, errAborted) {
		return fmt.Errorf("a write went on after the database refused a part of it: %v", reason) //nolint:errorlint // its own fault, no longer that of the transaction
	}
	return reason
}

func (w *writing) connect(ctx context.Context) (err error) {
	if w.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := w.store.writer.Conn(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	w.conn, w.tx = conn, w.store.newTx(conn)
	return nil
}

func (w *writing) disconnect() {
	w.close()
	w.conn = nil
}

func (w *writing) close() {
	w.tx.forget()
	if w.conn == nil {
		return
	}
	err := w.conn.Close()
	if err != nil && !errors.Is(err, driver.ErrBadConn) && !errors.Is(err, sql.ErrConnDone) {
		w.store.logger.Warn("database connection did not close cleanly", "error", err)
	}
}

package store

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
)

// A write is one queued call of Write.
type write struct {
	ctx    context.Context //nolint:containedctx // the caller waits for the write, so the context lives as long as the call
	fn     func(tx *Tx) error
	after  []func()
	err    error
	answer chan struct{}
}

// Write runs fn in a transaction and returns after the commit is on the disk
// and the After functions of fn have run. When fn returns an error, nothing of
// it is kept and Write returns that error. Concurrent writes share a commit but
// not their fate; only a fault of the database itself fails all of them.
//
// fn runs on the writer's goroutine, one at a time: it must not call Write. When
// another instance gets in the way, it runs again from its beginning.
func (s *Store) Write(ctx context.Context, fn func(tx *Tx) error) error {
	w, err := s.enqueue(ctx, fn)
	if err != nil {
		return err
	}
	<-w.answer
	return w.err
}

// WriteLater queues fn and does not wait. It is for what may be lost in a
// crash; a failure is logged. Close waits for it.
func (s *Store) WriteLater(ctx context.Context, fn func(tx *Tx) error) error {
	_, err := s.enqueue(context.WithoutCancel(ctx), func(tx *Tx) error {
		if err := fn(tx); err != nil {
			s.logger.Warn("background write failed", "error", err)
			return err
		}
		return nil
	})
	return err
}

func (s *Store) enqueue(ctx context.Context, fn func(tx *Tx) error) (*write, error) {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	w := &write{ctx: ctx, fn: fn, answer: make(chan struct{})}
	select {
	case s.queue <- w:
		return w, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// write is the writer: it owns conn and the prepared statements.
func (s *Store) write(conn *sql.Conn) {
	defer close(s.done)
	committed := make(chan []*write, 4)
	applied := make(chan struct{})
	go func() {
		defer close(applied)
		for batch := range committed {
			answer(batch)
		}
	}()
	w := &writing{store: s, conn: conn, tx: s.newTx(conn)}
	for first := range s.queue {
		batch := s.gather(first)
		if err := w.commit(batch); err != nil {
			s.logger.Error("transaction failed", "error", err)
			fail(batch, err)
		}
		committed <- batch
	}
	close(committed)
	<-applied
	w.close()
}

func (s *Store) newTx(conn *sql.Conn) *Tx {
	return &Tx{dialect: s.dialect, on: conn, prepared: map[string]*sql.Stmt{}}
}

// gather takes what else waits already; it never waits itself.
func (s *Store) gather(first *write) []*write {
	batch := []*write{first}
	for len(batch) < batchLimit {
		select {
		case w, ok := <-s.queue:
			if !ok {
				return batch
			}
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// run turns a panic of one write into its error: the neighbours go on.
func run(fn func(tx *Tx) error, tx *Tx) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("write panicked: %v\n%s", cause, debug.Stack())
		}
	}()
	return fn(tx)
}

// fail gives every write of a batch the fault that undid all of them. Also those
// that were refused: the reason may have been a neighbour that is undone now.
func fail(batch []*write, err error) {
	for _, w := range batch {
		w.err, w.after = err, nil
	}
}

func answer(batch []*write) {
	for _, w := range batch {
		if w.err == nil {
			for _, fn := range w.after {
				fn()
			}
		}
		close(w.answer)
	}
}
